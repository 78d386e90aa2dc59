"""`kurir demo`: the gateway and the sandbox network as two supervised processes, with an account to play with."""
