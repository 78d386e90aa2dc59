"""`kurir bench`: what the gateway's hot paths cost here, side by side with what they are measured against."""
