"""The proof: unit, conformance, contract, end to end, security."""
