"""`kurir demo`: the gateway and the sandbox network as two supervised processes, with a ready account."""
