"""Pictures and files to send: fetched from their URLs, inspected in a process of their own, kept until sent."""
