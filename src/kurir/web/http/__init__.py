"""What every HTTP door shares: limits of connections, allowed hosts, sign-in."""
