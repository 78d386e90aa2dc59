"""Contact lists and the people in them, imported from files and taken from WhatsApp."""
