"""Numbers linked as companion devices over the WhatsApp Web protocol. Start reading at `channel`, then `hosts`."""
