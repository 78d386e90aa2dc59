"""A real neonize engine in a child process, for tests of the sandbox's WhatsApp Web wire."""
