"""The vocabulary of the field: content, addresses, the life of a message, what channels report. Pure, no I/O."""
