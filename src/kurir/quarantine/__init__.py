"""The quarantine: items that could not be processed after several attempts."""
