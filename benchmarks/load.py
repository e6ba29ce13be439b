"""Posts calls over connections that are kept, as fast as they are answered: `python -m benchmarks.load PORT CLIENTS SECONDS`.

The last line of its output is how many were accepted, and in how many seconds.
"""

import selectors
import socket
import sys
import time
from urllib.parse import urlencode

FORM = {
    "From": "1000",
    "To": "+491701234567",
    "Gateways": "sofia/gateway/carrier1/,sofia/gateway/carrier2/",
    "GatewayTimeouts": "30,30",
    "AnswerUrl": "http://127.0.0.1:9/answer/",
    "RingUrl": "http://127.0.0.1:9/ring/",
    "HangupUrl": "http://127.0.0.1:9/hangup/",
    "TimeLimit": "3600",
    "HangupOnRing": "60",
}


def post(form: dict[str, str]) -> bytes:
    """The bytes of one request."""
    body = urlencode(form).encode()
    head = (
        "POST /v0.1/Call/ HTTP/1.1\r\nHost: 127.0.0.1\r\n"
        f"Content-Type: application/x-www-form-urlencoded\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def whole(message: bytes) -> bool:
    """Whether a request, or an answer, has come to its end."""
    head, found, body = message.partition(b"\r\n\r\n")
    if not found:
        return False
    if b"chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
    return len(body) >= int(length)


def main(port: int, clients: int, seconds: float) -> None:
    """Post, and say how it went."""
    request = post(FORM)
    selector = selectors.DefaultSelector()
    for _ in range(clients):
        connection = socket.create_connection(("127.0.0.1", port))
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(connection, selectors.EVENT_READ, bytearray())
        connection.sendall(request)
    accepted, waiting = 0, clients
    began = time.monotonic()
    while waiting:
        for key, _ in selector.select(timeout=30.0) or sys.exit("no answer for 30 s"):
            connection, answer = key.fileobj, key.data
            answer += connection.recv(65536)
            if not whole(answer):
                continue
            if b'"Success": true' not in answer and b'"Success":true' not in answer:
                sys.exit(f"refused: {bytes(answer)!r}")
            accepted += 1
            answer.clear()
            if time.monotonic() - began < seconds:
                connection.sendall(request)
            else:
                waiting -= 1
    print(accepted, time.monotonic() - began)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
