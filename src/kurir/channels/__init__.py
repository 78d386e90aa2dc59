"""The two ways to WhatsApp. They share one protocol (`channel`) and never see each other."""
