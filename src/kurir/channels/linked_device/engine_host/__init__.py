"""The engine host: everything that runs in the child process beside the WhatsApp Web engine."""
