"""The least of HTTP that a client or a server on a socket needs: where a message ends."""

from __future__ import annotations


def body_of(received: bytes) -> bytes | None:
    """The body of a message with a ``Content-Length``, or None while it is not whole."""
    head, end, body = received.partition(b"\r\n\r\n")
    if not end:
        return None
    length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
    return body if len(body) >= length else None
