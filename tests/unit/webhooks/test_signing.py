"""The headers of a delivery, against the specification's own vector and its reference library."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import time

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from kurir.webhooks.signing import headers, new_secret


def test_the_vector_of_the_specification() -> None:
    made = headers(
        ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"],
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "BO-1",
        b'{"test": 2432232314}',
        1_614_265_330.9,
    )
    assert made == {
        "Content-Type": "application/json",
        "BLS-OTO-NUMBERID": "BO-1",
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }


def test_it_is_what_a_receiver_would_compute() -> None:
    secret, body = new_secret(), '{"type":"incoming_chat","data":{"message_body":"Halo 👋"}}'.encode()
    made = headers([secret], "evt_1", "WB-1", body, 1_800_000_000)
    key = base64.b64decode(secret.removeprefix("whsec_"))
    digest = hmac.new(key, b"evt_1.1800000000." + body, hashlib.sha256).digest()
    assert made["webhook-signature"] == "v1," + base64.b64encode(digest).decode()


def test_while_rotating_either_secret_verifies_and_no_other() -> None:
    new, old, foreign = new_secret(), new_secret(), new_secret()
    body = b'{"type":"test","data":{}}'
    made = headers([new, old], "evt_1", "BO-1", body, time.time())
    assert len(made["webhook-signature"].split(" ")) == 2
    assert Webhook(new).verify(body, made) == Webhook(old).verify(body, made) == {"type": "test", "data": {}}
    for secret, data in ((foreign, body), (new, body + b" ")):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret).verify(data, made)


def test_secrets_are_long_and_differ() -> None:
    secrets = {new_secret() for _ in range(50)}
    assert len(secrets) == 50
    for secret in secrets:
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", secret)
