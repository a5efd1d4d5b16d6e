"""What a server sends is read strictly, however it is cut into pieces."""

from __future__ import annotations

import random

import pytest

from viscum.image.http import Answer, Broken, Line

ROUNDS = 3000
PIECES = (
    b"HTTP/1.1 200 OK\r\n",
    b"HTTP/1.0 404 No\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"Content-Length: 5\r\n",
    b"content-length: 99999999999999999999\r\n",
    b"Content-Length: -1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Connection: close\r\n",
    b" folded: x\r\n",
    b"\r\n",
    b"5\r\nhello\r\n",
    b"0\r\n\r\n",
    b"-5\r\nhello\r\n",
    b"ffffffffffffffff\r\n",
    b"5;extension=1\r\nhello\r\n",
    b"\x00\xff\n",
    b"hello",
)


class Channel:
    """What was sent, in pieces of any size."""

    def __init__(self, data: bytes, choices: random.Random) -> None:
        self.data, self.choices, self.closed = data, choices, False

    def recv(self, size: int) -> bytes:
        size = min(size, self.choices.choice((1, 2, 7, 4096)))
        piece, self.data = self.data[:size], self.data[size:]
        return piece

    def close(self) -> None:
        self.closed = True


def answer_to(data: bytes, choices: random.Random, method: str = "GET") -> tuple[Answer, Channel]:
    channel = Channel(data, choices)
    return Answer(Line(channel, []), method), channel


def body_of(answer: Answer) -> bytes:
    found = []
    while data := answer.read(1 << 16):
        found.append(data)
    return b"".join(found)


def test_what_is_no_answer_is_refused_or_read_in_bounds() -> None:
    """From parts that make sense, in an order that makes none: no error but one."""
    read = 0
    for seed in range(ROUNDS):
        choices = random.Random(seed)
        data = b"".join(choices.choices(PIECES, k=choices.randrange(1, 12)))
        data = PIECES[0] + data if seed % 2 else data
        try:
            answer, _ = answer_to(data, choices)
            assert 100 <= answer.status < 1000
            assert len(body_of(answer)) <= len(data)
            read += 1
        except Broken:
            continue
    assert ROUNDS // 50 < read < ROUNDS


@pytest.mark.parametrize("seed", range(30))
def test_body_comes_as_it_was_sent(seed: int) -> None:
    choices = random.Random(seed)
    body = choices.randbytes(choices.randrange(1, 5000))
    if seed % 2:
        sent, left = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n", body
        while left:
            size = choices.randrange(1, len(left) + 1)
            sent += b"%x;a=b\r\n%s\r\n" % (size, left[:size])
            left = left[size:]
        sent += b"0\r\nTrailer: x\r\n\r\n"
    else:
        sent = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    answer, channel = answer_to(sent + b"HTTP/1.1 999 next\r\n", choices)
    assert body_of(answer) == body
    assert answer.lasts
    answer.finish()
    assert not channel.closed
    for cut in (len(sent) - 1, len(sent) // 2):
        with pytest.raises(Broken):
            body_of(answer_to(sent[:cut], choices)[0])


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200\r\nContent-Length: 0x5\r\n\r\nhello",
        b"HTTP/1.1 200\r\nContent-Length: +5\r\n\r\nhello",
        b"HTTP/1.1 200\r\nContent-Length : 5\r\n\r\nhello",
        b"HTTP/1.1 200\r\nTransfer-Encoding: identity\r\n\r\nhello",
        b"HTTP/1.1 200\r\nTransfer-Encoding: chunked\r\n\r\n5_0\r\nhello",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 2x0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 200\r\nX: " + bytes(100 << 10),
        b"HTTP/1.1 100\r\n\r\n" * 200,
        b"",
    ],
)
def test_answer_that_could_mean_two_things_is_refused(head: bytes) -> None:
    with pytest.raises(Broken):
        body_of(answer_to(head, random.Random(1))[0])
