"""What could not be processed after some tries, set aside whole, so that everything else goes on."""
