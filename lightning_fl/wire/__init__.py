"""What crosses a site's boundary: messages, the transport under them, and records of both."""
