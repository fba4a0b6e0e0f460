import queue
import socket
import threading

from copies import Copies, as_bytes


class LocalCache:
    """Local copies without a library: one connection tracks tags, another one reads, and tracks what it reads."""

    def __init__(self, host="localhost", port=6379):
        self.copies = Copies()
        self.replies = queue.Queue()
        self.asking = threading.Lock()
        self.connected = True
        self.tags, self.keys = Wire(host, port), Wire(host, port)
        self.tags.call("CLIENT", "TRACKING", "ON", "BCAST", "PREFIX", "smartcache:tag:")
        self.keys.call("CLIENT", "TRACKING", "ON")
        for wire in self.tags, self.keys:
            threading.Thread(target=self.listen, args=[wire], daemon=True).start()

    def get(self, key, tags=()):
        """The value of key as bytes, or None. tags are the ones that it was stored with."""
        if not self.connected:
            raise ConnectionError("the connection is lost: make another cache")
        return self.copies.get(key, tags, lambda: self.ask(key))

    def ask(self, key):
        with self.asking:
            self.keys.send("SMARTCACHE.GET", key, "STATE")
            reply = self.replies.get()
        if isinstance(reply, Exception):
            raise reply
        _state, value, _token, fresh_ms, _lease_ms = reply
        return value, fresh_ms

    def listen(self, wire):
        try:
            while True:
                kind, message = wire.receive()
                if kind != b">":
                    self.replies.put(message)
                elif message[0] == b"invalidate":
                    self.copies.drop(message[1])
        except (OSError, ValueError) as gone:
            self.connected = False
            self.copies.drop(None)  # without both connections, changes go unreported
            self.tags.close()
            self.keys.close()
            self.replies.put(ConnectionError(str(gone)))


class Wire:
    """A RESP3 connection: sends commands, receives replies and pushes."""

    def __init__(self, host, port):
        self.socket = socket.create_connection((host, port))
        self.file = self.socket.makefile("rb")
        self.call("HELLO", "3")  # or HELLO 3 AUTH user password

    def call(self, *words):
        self.send(*words)
        _, reply = self.receive()
        if isinstance(reply, Exception):
            raise reply
        return reply

    def send(self, *words):
        words = [as_bytes(word) for word in words]
        self.socket.sendall(b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(w), w) for w in words))

    def receive(self):
        """The next reply or push, with its first byte, which says what it is."""
        line = self.file.readline()
        if not line.endswith(b"\r\n"):
            raise ConnectionError("the server has gone")
        kind, rest = line[:1], line[1:-2]
        if kind == b"$":
            return kind, self.file.read(int(rest) + 2)[:-2]
        if kind in b"*>":
            return kind, [self.receive()[1] for _ in range(int(rest))]
        if kind == b"%":
            return kind, {self.receive()[1]: self.receive()[1] for _ in range(int(rest))}
        if kind == b":":
            return kind, int(rest)
        if kind == b"-":
            return kind, RuntimeError(rest.decode())
        return kind, None if kind == b"_" else rest

    def close(self):
        try:
            self.socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is closed already
