"""WhatsApp Web as a wire: what linked devices (unmodified engines) talk to.

From the bottom: `stanza`, `codec`, `noise`, `connection` transport stanzas; `signal_sessions`, `sender_keys`,
`handsets` are the phones' end-to-end encryption; `pairing`, `login`, `queries` let a device in and answer it;
`uplink` and `downlink` pass messages from and to devices, `drafts` lists what people may choose of a stanza;
`server` puts it all together.
"""
