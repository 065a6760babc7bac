-- Shows what is inside the DTLS of WebRTC data channels: SCTP, the messages that open channels (DCEP), and data.
--   SSLKEYLOGFILE=keys datapeer get ...
--   wireshark -X lua_script:docs/wireshark.lua -o tls.keylog_file:keys capture.pcap     (tshark takes the same options)
-- Wireshark decrypts the records by itself, but does not look for SCTP in them. It has to see the handshake, and both directions between
-- the same two addresses: --bind ADDRESS keeps ICE from using several.
local sctp = Dissector.get("sctp")
local channels = Proto("webrtc_data_channels", "WebRTC data channels (RFC 8831)")

-- Both ports are 5000 (RFC 8841 section 4.4: a=sctp-port) wherever nobody has chosen others; no other protocol begins so.
channels:register_heuristic("dtls", function(buffer, pinfo, tree)
    if buffer:len() < 16 or buffer(0, 4):uint() ~= 0x13881388 then return false end
    sctp:call(buffer, pinfo, tree)
    return true
end)
