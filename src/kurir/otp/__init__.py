"""One-time passwords: codes that a person receives over WhatsApp and hands back once, within their lifetime.

The wire's `validate_otp` names only the account and the code, so a guess can hit any open code of the account. What
keeps a guesser out:

- A code is drawn by `secrets` and unique among the account's open codes; the database keeps keyed hashes only. The
  plain code exists in the answer to the caller and in the outgoing message, which is sealed.
- A code is used up by one conditional UPDATE, so of many checks at once exactly one succeeds.
- A check narrowed by request id or phone number costs each code it could have meant one of its few tries.
- A check that is not narrowed draws on the account's budget of failures per hour; when it is spent, such checks are
  refused for a quarter of an hour. A hundred failures without a right code between them stop such checks for an hour.
  A right code given with its request id or phone number ends that stop at once; when it has run its time, the failures
  that led to it are forgiven. So no account stays locked, and nobody guesses faster for it.

Limits live in the same database as the codes: when it cannot answer, nothing is sent and nothing is valid.
`rules` is pure, `issue` sends codes, `check` takes them back.
"""
