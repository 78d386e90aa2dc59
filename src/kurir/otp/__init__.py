"""One-time passwords: codes that a person receives over WhatsApp and enters once, within their lifetime.

The wire's `validate_otp` names only the account and the code, so a guess can hit any open code of the account. Rules
that keep guessers out, and honest people in:

- A code is drawn by `secrets` and unique among the account's open codes; the database keeps keyed hashes only. The
  plain code exists in the answer to the caller and in the outgoing message, which is sealed.
- A code is used up by one conditional UPDATE, so of many checks at once exactly one succeeds.
- Wrong checks are counted by the chance that they were to a guesser, which stays below 1 % per account and hour. Codes
  get longer while many are open or somebody is guessing, so that honest checks stay far from that limit.
- A check narrowed by request id or phone number costs each code it could have meant one of its few tries.

Limits live in the same database as the codes: when it cannot answer, nothing is sent and nothing is valid.
`budget` and `rules` are pure, `ledger` counts, `issue` sends codes, `check` checks them.
"""
