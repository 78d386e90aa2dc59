"""Message templates at Meta: calls, components and rules."""
