"""What Meta and the Graph API need of message templates."""
