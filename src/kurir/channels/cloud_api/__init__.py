"""The official channel: WhatsApp Business numbers through Meta's Cloud API (Graph API, `graph.facebook.com`)."""
