"""Domain types: content, addresses, the states of a message, what channels report. Pure, no I/O."""
