#!/usr/bin/env python3
"""Turns binarypack-vectors.json (made by running the npm package peerjs-js-binarypack) into vectors.txt for vectors.c.

    vectors.py binarypack-vectors.json > vectors.txt

One case a line, fields separated by tabs:
    pack NAME VALUE PACKED          VALUE packs to PACKED (hex, or LENGTH:SHA256), as in JavaScript
    differ NAME VALUE PACKED REASON what we write where JavaScript writes something else (or throws)
    unpack NAME PACKED VALUE        PACKED, maybe followed by other bytes, is VALUE, as in JavaScript
    strict NAME PACKED REASON       JavaScript makes something of it, we refuse
    other NAME PACKED VALUE REASON  both make something of it, not the same
    malformed NAME PACKED           we refuse, whatever JavaScript does
VALUE: N null, T true, F false, #BITS a number (double, hex), sHEX text, bHEX bytes, S(LEN)HEX text of LEN units, P(LEN)SEED bytes
of the test pattern, A(LEN)VALUE array of LEN equal items, K(LEN) map k0.. of i % 16, [VALUE...], {sHEX VALUE ...}.
"""
import json
import math
import re
import struct
import sys


def bits(number):
    return struct.pack(">d", number).hex()


def entries(pairs):
    # JavaScript lists integer-like keys first, ascending.
    numeric = sorted((p for p in pairs if p[0].isdigit() and str(int(p[0])) == p[0]), key=lambda p: int(p[0]))
    pairs = numeric + [p for p in pairs if p not in numeric]
    return "{" + "".join("s" + k.encode().hex() + " " + write(v) for k, v in pairs) + "}"


def write(v):
    if v is None:
        return "N "
    if isinstance(v, bool):
        return "T " if v else "F "
    if isinstance(v, (int, float)):
        return "#" + bits(float(v)) + " "
    if isinstance(v, str):
        return "s" + re.sub("[\ud800-\udfff]", "\ufffd", v).encode().hex() + " "  # lone surrogates
    if isinstance(v, list):
        return "[" + "".join(write(x) for x in v) + "]"
    kind = v.get("$")
    if kind is None:
        return entries(list(v.items()))
    if kind == "undef":
        return "N "
    if kind == "num":
        return "#" + bits(float(v["v"].replace("Infinity", "inf"))) + " "
    if kind == "str":
        return "S(%d)%s " % (v["len"], v["unit"].encode().hex())
    if kind in ("pat", "patab"):
        return "P(%d)%d " % (v["len"], v["seed"])
    if kind in ("ab", "ta", "blob"):
        return "b" + v["hex"] + " "
    if kind == "arr":
        return "A(%d)%s" % (v["len"], write(v["of"]))
    if kind == "keys":
        return "K(%d) " % v["len"]
    if kind == "obj":
        return entries(v["v"])
    raise KeyError(kind)


def write_decoded(v):
    if isinstance(v, dict) and "#" in v:
        if v["#"] == "bytes":
            return "b" + v["hex"] + " "
        if v["#"] == "num":
            return "#" + bits(float(v["v"].replace("Infinity", "inf"))) + " "
        raise KeyError(v["#"])
    if isinstance(v, dict):
        return "{" + "".join("s" + k.encode().hex() + " " + write_decoded(x) for k, x in v.items()) + "}"
    if isinstance(v, list):
        return "[" + "".join(write_decoded(x) for x in v) + "]"
    return write(v)


def number_of(v):
    if isinstance(v, dict) and v.get("$") == "num":
        return float(v["v"].replace("Infinity", "inf"))
    return float(v) if isinstance(v, (int, float)) and not isinstance(v, bool) else None


def our_number(n):
    """(packed, reason) where we differ from JavaScript on purpose."""
    if math.isnan(n):
        return None
    if math.isinf(n):
        return "cb" + bits(n), "JavaScript throws; its decoder reads it right"
    if n == math.trunc(n):
        if n < -2**31:
            return "cb" + bits(n), "PeerJS reads negative int64 wrongly, doubles right"
        if n == 2**63:
            return "cf8000000000000000", "JavaScript writes an int64 that reads back negative"
        if n >= 2**64:
            return "cb" + bits(n), "JavaScript writes 0 or throws; its decoder reads it right"
        return None
    return "cb" + bits(n), "JavaScript's encoder is inexact here; IEEE form is read right"


def packed(case):
    return case["hex"] if "hex" in case else "%d:%s" % (case["len"], case["sha256"])


UTF8 = "not UTF-8"


def main():
    data = json.load(open(sys.argv[1]))
    for case in data["pack"]:
        value = case["value"]
        if isinstance(value, dict) and value.get("$") == "js":
            continue  # things that only JavaScript has
        if isinstance(value, dict) and value.get("$") == "date":
            value = case["decoded"]
        number = number_of(value)
        if number is not None:
            ours = our_number(number)
            if ours is not None and ours[0] != case.get("hex"):
                print("differ", case["name"], write(value), ours[0], ours[1], sep="\t")
                continue
        print("pack", case["name"], write(value), packed(case), sep="\t")
    for case in data["unpack"]:
        unpack(case)
    for case in data["malformed"]:
        if "hex" in case:
            print("malformed", case["name"], case["hex"], sep="\t")


def unpack(case):
    name, hexed = case["name"], case["hex"]
    first = hexed[:2]
    if "undef" in json.dumps(case["decoded"]):
        print("strict", name, hexed, "a tag that nobody writes", sep="\t")
    elif first in ("81", "82", "83") and name.startswith("map ") and ("array key" in name or "map key" in name or "raw key" in name):
        print("strict", name, hexed, "a key that nobody means", sep="\t")
    elif name in ("two values", "trailing bytes") or name.startswith("tag "):
        strings = hexed[0] == "b" and first >= "b9"
        if strings:
            print("strict", name, hexed, UTF8, sep="\t")
        elif first in ("88", "89", "8a", "8b", "8c", "8d", "8e", "8f"):
            print("strict", name, hexed, "too short", sep="\t")
        else:
            print("unpack", name, hexed, write_decoded(case["decoded"]), sep="\t")
    elif name.startswith("str ") and name not in ("str nul",):
        print("strict", name, hexed, UTF8, sep="\t")
    elif first in ("ca", "cb", "d3", "81") and (other := different(name, hexed)) is not None:
        print("other", name, hexed, *other, sep="\t")
    else:
        print("unpack", name, hexed, write_decoded(case["decoded"]), sep="\t")


def different(name, hexed):
    raw = bytes.fromhex(hexed)
    if raw[0] == 0xCA:
        value = struct.unpack(">f", raw[1:5])[0]
        if value == 0 or not math.isfinite(value) or abs(value) < 2**-126:
            return "#" + bits(value) + " ", "IEEE 754, which JavaScript's decoder is not at the edges"
    if raw[0] == 0xCB:
        value = struct.unpack(">d", raw[1:9])[0]
        if raw[1:9] == bytes(8):
            return "#" + bits(math.nan) + " ", "how PeerJS writes NaN"
        if value == 0 or math.isnan(value) or abs(value) < 2**-1022:
            return "#" + bits(value) + " ", "IEEE 754, which JavaScript's decoder is not at the edges"
    if raw[0] == 0xD3 and raw[1] >= 0x80:
        return "#" + bits(float(struct.unpack(">q", raw[1:9])[0])) + " ", "JavaScript sums negative int64 inexactly"
    if name == "map __proto__ key":
        return "{s%s {s61 #%s }}" % (b"__proto__".hex(), bits(1.0)), "an ordinary key"
    return None


main()
