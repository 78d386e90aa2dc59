"""Message templates of official numbers."""
