#!/usr/bin/python3
"""aiortc as a driver of docs/interop.md, part 1: one raw peer connection driven by JSON lines.

    aiortc_driver.py offer|answer [--trickle] [--mdns]

aiortc never hides its addresses, and it gathers before it tells its description: with --trickle the candidates are
taken out of the description and told one by one.
"""
import asyncio
import hashlib
import json
import logging
import os
import signal
import sys
import time

import aiortc
from aiortc.sdp import candidate_from_sdp

BUFFERED_HIGH = 1 << 20
BUFFERED_LOW = 1 << 19

# Content: 256 bytes in a row have the same i >> 8, and rows repeat.
ROWS = [bytes((first + 7 * i) & 255 for i in range(256)) for first in range(256)]
LETTERS = bytes(65 + byte % 26 for byte in range(256))


def content(size, seed):
    return b"".join(ROWS[(seed * 131 + row) & 255] for row in range((size + 255) // 256))[:size]


def tell(ev, **fields):
    sys.stdout.write(json.dumps({"ev": ev, **fields}) + "\n")
    sys.stdout.flush()


def tell_error(error, cmd=None, label=None, unsupported=False):
    fields = {"message": f"{type(error).__name__}: {error}" if isinstance(error, Exception) else error}
    if cmd is not None:
        fields["cmd"] = cmd
    if label is not None:
        fields["label"] = label
    if unsupported:
        fields["unsupported"] = True
    tell("error", **fields)


class Channel:
    """A label: what is asked of it, and its data channel once there is one."""

    def __init__(self, label):
        self.label = label
        self.dc = None
        self.echo = False
        self.sink = None
        self.jobs = asyncio.Queue()
        self.low = asyncio.Event()
        self.worker = None

    def take(self, dc, incoming):
        self.dc = dc
        dc.bufferedAmountLowThreshold = BUFFERED_LOW
        dc.on("bufferedamountlow", self.low.set)
        dc.on("message", self.on_message)
        dc.on("close", self.on_close)
        if dc.readyState == "open":
            self.on_open(incoming)
        else:
            dc.on("open", lambda: self.on_open(incoming))

    def on_open(self, incoming):
        dc = self.dc
        tell("open", label=self.label, id=dc.id, ordered=dc.ordered, maxRetransmits=dc.maxRetransmits,
             maxPacketLifeTime=dc.maxPacketLifeTime, protocol=dc.protocol, negotiated=dc.negotiated, incoming=incoming)
        self.worker = asyncio.ensure_future(self.work())

    def on_close(self):
        if self.worker is not None:
            self.worker.cancel()
        tell("closed", label=self.label)

    def on_message(self, message):
        data = message.encode() if isinstance(message, str) else message
        if self.sink is not None:
            self.swallow(data)
        else:
            tell("message", label=self.label, binary=not isinstance(message, str), size=len(data),
                 sha256=hashlib.sha256(data).hexdigest())
        if self.echo:
            self.jobs.put_nowait({"cmd": "echo", "message": message})

    def swallow(self, data):
        sink = self.sink
        if sink["sunk"] == 0:
            sink["first"] = time.monotonic()
        sink["sunk"] += 1
        sink["size"] += len(data)
        sink["hash"].update(data)
        if sink["sunk"] == sink["count"]:
            self.sink = None
            tell("sunk", label=self.label, count=sink["count"], size=sink["size"], sha256=sink["hash"].hexdigest(),
                 ms=round((time.monotonic() - sink["first"]) * 1000))

    async def room(self, limit):
        while self.dc.bufferedAmount > limit:
            self.dc.bufferedAmountLowThreshold = min(limit, BUFFERED_LOW)
            self.low.clear()
            await self.low.wait()

    async def work(self):
        """The sends and the close, in their order."""
        while True:
            job = await self.jobs.get()
            try:
                if job["cmd"] == "close":
                    # aiortc would reset the stream at once and lose what it still queues for it.
                    await self.room(0)
                    self.dc.close()
                elif job["cmd"] == "echo":
                    await self.room(BUFFERED_HIGH)
                    self.dc.send(job["message"])
                else:
                    await self.send(job)
            except Exception as error:
                tell_error(error, job["cmd"], self.label)

    async def send(self, job):
        count = job.get("count", 1)
        for j in range(count):
            await self.room(BUFFERED_HIGH)
            if "text" in job:
                message = job["text"]
            else:
                message = content(job.get("size", 0), job.get("seed", 0) + j)
                if not job.get("binary", True):
                    message = message.translate(LETTERS).decode()
            self.dc.send(message)
            await asyncio.sleep(0)  # the rest of aiortc runs in this loop
        tell("sent", label=self.label, count=count)


class Driver:
    def __init__(self, offerer, trickle):
        self.offerer = offerer
        self.trickle = trickle
        self.channels = {}
        self.pc = aiortc.RTCPeerConnection()
        self.pc.on("connectionstatechange", lambda: tell("state", state=self.pc.connectionState))
        self.pc.on("iceconnectionstatechange", lambda: tell("ice", state=self.pc.iceConnectionState))
        self.pc.on("datachannel", lambda dc: self.channel(dc.label).take(dc, True))

    def channel(self, label):
        if label not in self.channels:
            self.channels[label] = Channel(label)
        return self.channels[label]

    def tell_description(self):
        local = self.pc.localDescription
        if not self.trickle:
            tell("description", type=local.type, sdp=local.sdp)
            return
        lines = local.sdp.splitlines()
        candidates = [line for line in lines if line.startswith("a=candidate:")]
        rest = [line for line in lines if line not in candidates and line != "a=end-of-candidates"]
        tell("description", type=local.type, sdp="\r\n".join(rest) + "\r\n")
        for line in candidates:
            tell("candidate", candidate=line[2:], sdpMid=self.pc.sctp.mid, sdpMLineIndex=0)
        tell("candidate", candidate=None, sdpMid=self.pc.sctp.mid, sdpMLineIndex=0)

    def open(self, command):
        negotiated = command.get("negotiated", False)
        dc = self.pc.createDataChannel(
            command["label"], maxPacketLifeTime=command.get("maxPacketLifeTime"), maxRetransmits=command.get("maxRetransmits"),
            ordered=command.get("ordered", True), protocol=command.get("protocol", ""), negotiated=negotiated,
            id=command.get("id") if negotiated else None)
        self.channel(command["label"]).take(dc, False)

    async def carry_out(self, command):
        cmd = command["cmd"]
        if cmd == "open":
            self.open(command)
        elif cmd == "start":
            await self.pc.setLocalDescription(await self.pc.createOffer())
            self.tell_description()
        elif cmd == "description":
            await self.pc.setRemoteDescription(aiortc.RTCSessionDescription(command["sdp"], command["type"]))
            if command["type"] == "offer":
                await self.pc.setLocalDescription(await self.pc.createAnswer())
                self.tell_description()
        elif cmd == "candidate":
            candidate = None
            if command.get("candidate"):
                candidate = candidate_from_sdp(command["candidate"].split(":", 1)[1])
            await self.pc.sctp.transport.transport.addRemoteCandidate(candidate)
        elif cmd in ("send", "close"):
            channel = self.channel(command["label"])
            if channel.dc is None:
                raise ValueError("no such channel")
            channel.jobs.put_nowait(command)
        elif cmd == "echo":
            self.channel(command["label"]).echo = True
            tell("armed", label=command["label"])
        elif cmd == "sink":
            self.channel(command["label"]).sink = {"count": command.get("count", 1), "sunk": 0, "size": 0,
                                                   "hash": hashlib.sha256()}
            tell("armed", label=command["label"])
        elif cmd == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        else:
            tell_error("not in this driver", cmd, unsupported=True)

    async def run(self):
        reader = asyncio.StreamReader(limit=1 << 27)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        tell("ready", impl=f"aiortc {aiortc.__version__}", reset=False)
        while line := await reader.readline():
            try:
                command = json.loads(line)
                cmd = command["cmd"]
            except (ValueError, TypeError, KeyError):
                print("ignored a line that is no command", file=sys.stderr)
                continue
            if cmd == "quit":
                break
            try:
                await self.carry_out(command)
            except Exception as error:
                tell_error(error, cmd, command.get("label"))
        await asyncio.wait_for(self.pc.close(), 4)


def main():
    arguments = sys.argv[1:]
    if not arguments or arguments[0] not in ("offer", "answer") or not set(arguments[1:]) <= {"--trickle", "--mdns"}:
        sys.exit("usage: aiortc_driver.py offer|answer [--trickle] [--mdns]")
    logging.basicConfig(level=logging.WARNING)
    sys.stdout.reconfigure(encoding="utf-8")
    asyncio.run(Driver(arguments[0] == "offer", "--trickle" in arguments).run())


if __name__ == "__main__":
    main()
