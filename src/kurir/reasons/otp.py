"""Why a one-time password is not sent or not checked."""

from __future__ import annotations

from kurir.reasons.reason import Code

# -- one-time passwords ------------------------------------------------------------------------------------------------

TOO_MANY_SENDS = Code(
    "otp_too_many_sends",
    id="Terlalu banyak kode OTP untuk nomor ini. Coba lagi dalam {seconds} detik.",
    en="Too many OTP codes for this phone number. Try again in {seconds} seconds.",
)
TOO_MANY_CHECKS = Code(
    "otp_too_many_checks",
    id="Terlalu banyak percobaan OTP. Coba lagi dalam {seconds} detik.",
    en="Too many OTP attempts. Try again in {seconds} seconds.",
)
NO_WAY = Code(
    "otp_no_way",
    id="Kode OTP tidak dikirim, karena tidak akan sampai selama masih berlaku: {why}",
    en="The OTP code was not sent, because it could not arrive while it is valid: {why}",
)
NUMBER_REMOVED = Code("otp_number_removed", id="Nomor ini sudah dihapus.", en="This number was removed.")
CODE_EXPECTED = Code("otp_code_expected", id="angka kode OTP", en="the digits of the code")
