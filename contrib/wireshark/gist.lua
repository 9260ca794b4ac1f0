-- GIST (RFC 5971), QoS-NSLP (RFC 5974) and QSPEC (RFC 5975) for Wireshark and
-- tshark, with the InterDomain-QOSM's code points of this project.
--
--   tshark -X lua_script:gist.lua -r gist.pcap -O gist,nslp,qspec
--   tshark -X lua_script:gist.lua -o tls.keylog_file:keys.log -r tls.pcap
--
-- Written from the RFCs, apart from the Go code, so that the two can be checked
-- against each other. Datagrams are recognized by the magic number and streams by
-- their first message, on every port; on the port of the preference also what is
-- malformed. nsis.lua and qosnslp.lua have to lie beside this file.

local here = debug.getinfo(1, "S").source:match("^@(.*)gist%.lua$") or ""
local n = dofile(here .. "nsis.lua")
local nslp = dofile(here .. "qosnslp.lua")
local gist = n.protos.gist
local f, field, u8, u16, u32, flag, octets, address = n.f, n.field, n.u8, n.u16, n.u32, n.flag, n.octets, n.address
local bad, need, exactly, pad, bit = n.bad, n.need, n.exactly, n.pad, n.bit
local with_errors, add_octets, add_address, each_object, mark, why = n.with_errors, n.add_octets, n.add_address, n.each_object, n.mark, n.why

gist.prefs.port = Pref.uint("Port", 270, "UDP and TCP port on which GIST is expected")

local MAGIC = 0x4e04bda5

local gist_types = { [0] = "Query", "Response", "Confirm", "Data", "Error", "MA-Hello" }
local gist_objects = { [0] = "Message-Routing-Information", "Session-Identifier", "Network-Layer-Information",
    "Stack-Proposal", "Stack-Configuration-Data", "Query-Cookie", "Responder-Cookie", "NAT-Traversal", "NSLP-Data",
    "Error", "Hello-ID" }
local mrms = { [0] = "Path-Coupled", [1] = "Loose-End", [120] = "Off-Path" }
local ma_protocols = { [1] = "Forwards-TCP", [2] = "TLS", [3] = "Forwards-SCTP" }
local gist_classes = { [0] = "Informational", "Success", "Protocol-Error", "Transient-Failure", "Permanent-Failure" }
local gist_errors = { "Common Header Parse Error", "Hop Limit Exceeded", "Incorrect Encapsulation",
    "Incorrectly Delivered Message", "No Routing State", "Unknown NSLPID", "Endpoint Found", "Message Too Large",
    "Object Type Error", "Object Value Error", "Invalid IP-Layer TTL", "MRI Validation Failure" }
local ai_types = { "Message Length Info", "MTU Info", "Object Type Info", "Object Value Info" }

field("uint32", "gist.magic", "Magic number", base.HEX)
local function header_fields(at, title)
    u8(at .. "version", title .. "Version")
    u8(at .. "hops", title .. "GIST hops")
    u16(at .. "length", title .. "Message Length (words)")
    u16(at .. "nslpid", title .. "NSLPID")
    u8(at .. "type", title .. "Type", gist_types)
end
header_fields("gist.", "")
header_fields("gist.error_data.header.", "Original ")
for _, x in ipairs({ "c Context-free", "s Source address is the peer's", "r Reply requested", "e Explicitly routed" }) do
    local name, text = x:match("(%a) (.*)")
    flag("gist.flags." .. name, text .. " (" .. name:upper() .. ")")
    flag("gist.error_data.header." .. name, "Original " .. text .. " (" .. name:upper() .. ")")
end
n.object_fields("gist", gist_objects)
u8("gist.mri.mrm", "Message routing method", mrms)
u8("gist.mri.ip_version", "IP version")
flag("gist.mri.upstream", "Upstream (D)")
address("gist.mri.source", "Source")
address("gist.mri.destination", "Destination")
u8("gist.mri.source_prefix", "Source prefix")
u8("gist.mri.destination_prefix", "Destination prefix")
u8("gist.mri.protocol", "Protocol")
u8("gist.mri.dscp", "DSCP")
u32("gist.mri.flow_label", "Flow label")
field("uint32", "gist.mri.spi", "SPI", base.DEC_HEX)
u16("gist.mri.source_port", "Source port")
u16("gist.mri.destination_port", "Destination port")
address("gist.mri.egress", "Egress address")
address("gist.mri.ingress", "Ingress address")
octets("gist.sid", "Session-Identifier")
octets("gist.nli.peer_identity", "Peer identity")
u8("gist.nli.ip_ttl", "IP TTL")
u32("gist.nli.validity_ms", "Routing state validity (ms)")
address("gist.nli.address", "Interface address")
u8("gist.stack_proposal.profile.protocol", "Protocol", ma_protocols)
u32("gist.stack_configuration.hold_time_ms", "MA-Hold-Time (ms)")
u8("gist.stack_configuration.option.protocol", "Protocol", ma_protocols)
u8("gist.stack_configuration.option.profile", "Profile")
flag("gist.stack_configuration.option.disabled", "Disabled (D)")
octets("gist.stack_configuration.option.data", "Options data")
u16("gist.stack_configuration.option.port", "Port")
octets("gist.query_cookie", "Query-Cookie")
octets("gist.responder_cookie", "Responder-Cookie")
u16("gist.nat_traversal.translated", "Translated object", gist_objects)
octets("gist.nat_traversal.nat.octets", "Information replaced by NAT")
octets("gist.nslp_data", "NSLP-Data")
u32("gist.hello_id", "Hello-ID")
u8("gist.error_data.class", "Error class", gist_classes)
u16("gist.error_data.code", "Error code", gist_errors)
u8("gist.error_data.subcode", "Error subcode")
flag("gist.error_data.d_mode", "Original in D-mode (D)")
flag("gist.error_data.q_mode", "Original in Q-mode (Q)")
u16("gist.error_data.info.type", "Additional information", ai_types)
u16("gist.error_data.info.words", "Calculated length (words)")
u16("gist.error_data.info.mtu", "Link MTU")
u16("gist.error_data.info.object_type", "Object type", gist_objects)
u16("gist.error_data.info.offset", "Offset")
octets("gist.error_data.info.object", "Object")
octets("gist.error_data.info.octets", "Octets")
field("string", "gist.error_data.comment", "Comment")

n.register("gist")

-- RFC 5971 A.3.1. With MRM 120 (interdomain-qosm 3) two addresses follow.
local function mri(v, tree)
    need(v, 0, 4)
    local method, version = v(0, 1):uint(), v:bitfield(16, 4)
    tree:add(f["gist.mri.mrm"], v(0, 1))
    if not mrms[method] then bad("message routing method %d, want 0, 1 or 120", method) end
    if v:bitfield(8, 1) == 1 then bad("N-flag set with message routing method %d", method) end
    if version ~= 4 and version ~= 6 then bad("IP version %d, want 4 or 6", version) end
    tree:add(f["gist.mri.ip_version"], v(2, 1), version)
    bit(tree, "gist.mri.upstream", v, method == 1 and 20 or 26)
    local n = version == 6 and 16 or 4
    need(v, 4, 2 * n)
    add_address(tree, "gist.mri.source", v(4, n), version)
    add_address(tree, "gist.mri.destination", v(4 + n, n), version)
    local at = 4 + 2 * n
    if method == 1 then return exactly(v, at) end
    local fixed = need(v, at, 4)
    tree:add(f["gist.mri.source_prefix"], fixed(0, 1))
    tree:add(f["gist.mri.destination_prefix"], fixed(1, 1))
    if fixed(0, 1):uint() > 8 * n or fixed(1, 1):uint() > 8 * n then bad("prefix longer than %d", 8 * n) end
    local p, t, l, s = v:bitfield(20, 1), v:bitfield(21, 1), v:bitfield(22, 1), v:bitfield(23, 1)
    local a, b = v:bitfield(24, 1), v:bitfield(25, 1)
    if l == 1 and version ~= 6 or s == 1 and p == 0 or (a == 1 or b == 1) and p == 0 then
        bad("flags P=%d T=%d F=%d S=%d A=%d B=%d with IP version %d", p, t, l, s, a, b, version)
    end
    if p == 1 then tree:add(f["gist.mri.protocol"], fixed(2, 1)) end
    if t == 1 then tree:add(f["gist.mri.dscp"], fixed(3, 1), fixed:bitfield(24, 6)) end
    at = at + 4
    if l == 1 then
        tree:add(f["gist.mri.flow_label"], need(v, at, 4), v(at, 4):bitfield(12, 20))
        at = at + 4
    end
    if s == 1 then
        tree:add(f["gist.mri.spi"], need(v, at, 4))
        at = at + 4
    end
    if a == 1 or b == 1 then
        need(v, at, 4)
        if a == 1 then tree:add(f["gist.mri.source_port"], v(at, 2)) end
        if b == 1 then tree:add(f["gist.mri.destination_port"], v(at + 2, 2)) end
        at = at + 4
    end
    if method == 120 then
        need(v, at, 2 * n)
        add_address(tree, "gist.mri.egress", v(at, n), version)
        add_address(tree, "gist.mri.ingress", v(at + n, n), version)
        at = at + 2 * n
    end
    exactly(v, at)
end

local function header(v, tree, at, flags)
    for i, x in ipairs({ "version 0 1", "hops 1 1", "length 2 2", "nslpid 4 2" }) do
        local name, from, n = x:match("(%a+) (%d) (%d)")
        tree:add(f[at .. name], v(tonumber(from), tonumber(n)))
    end
    tree:add(f[at .. "type"], v(6, 1), v:bitfield(49, 7))
    bit(tree, flags .. "c", v, 48)
    bit(tree, flags .. "s", v, 56)
    bit(tree, flags .. "r", v, 57)
    bit(tree, flags .. "e", v, 58)
end

local function additional_info(v, t)
    local kind, value = v(0, 2):uint(), need(v, 4, v:len() - 4)
    t:add(f["gist.error_data.info.type"], v(0, 2))
    local number = ({ "words", "mtu", "object_type" })[kind]
    if number and value and value:len() == 4 then
        local n = number == "object_type" and value:bitfield(4, 12) or value(0, 2):uint()
        t:add(f["gist.error_data.info." .. number], value(0, 2), n)
    elseif kind == 4 and value and 4 * value:bitfield(4, 12) <= value:len() - 4 then
        t:add(f["gist.error_data.info.offset"], value(2, 2))
        add_octets(t, "gist.error_data.info.object", need(value, 4, 4 * value:bitfield(4, 12)))
    elseif value then
        t:add(f["gist.error_data.info.octets"], value)
    end
end

-- RFC 5971 A.4.1
local function error_data(v, tree)
    need(v, 0, 16)
    tree:add(f["gist.error_data.class"], v(0, 1))
    tree:add(f["gist.error_data.code"], v(1, 2))
    tree:add(f["gist.error_data.subcode"], v(3, 1))
    bit(tree, "gist.error_data.d_mode", v, 35)
    bit(tree, "gist.error_data.q_mode", v, 36)
    local h = tree:add(gist, v(8, 8), "Common header of the original message")
    header(v(8, 8), h, "gist.error_data.header.", "gist.error_data.header.")
    local at = 16
    if v:bitfield(32, 1) == 1 then
        tree:add(f["gist.sid"], need(v, at, 16))
        at = at + 16
    end
    local n = 4 * v(6, 1):uint()
    if v:bitfield(33, 1) == 1 then
        mri(need(v, at, n), tree:add(gist, v(at, n), "MRI of the original message"))
    elseif n > 0 then
        bad("MRI Length %d without the M-flag", n)
    end
    at = at + n
    for i = 1, v(7, 1):uint() do
        n = 4 + 4 * need(v, at, 4)(2, 2):uint()
        additional_info(need(v, at, n), tree:add(gist, v(at, n), "Additional information " .. i))
        at = at + n
    end
    if v:bitfield(34, 1) == 1 then
        tree:add(f["gist.error_data.comment"], need(v, at, v:len() - at), v(at):stringz())
    else
        exactly(v, at)
    end
end

local gist_readers = {
    [0] = mri,
    [1] = function(v, t) exactly(v, 16) t:add(f["gist.sid"], v) end,
    [2] = function(v, t)
        need(v, 0, 8)
        local n, version = v(0, 1):uint(), v:bitfield(16, 4)
        if version ~= 4 and version ~= 6 then bad("IP version %d, want 4 or 6", version) end
        exactly(v, 8 + n + pad(n) + (version == 6 and 16 or 4))
        add_octets(t, "gist.nli.peer_identity", need(v, 8, n))
        t:add(f["gist.nli.ip_ttl"], v(1, 1))
        t:add(f["gist.nli.validity_ms"], v(4, 4))
        add_address(t, "gist.nli.address", v(8 + n + pad(n)), version)
        if v(4, 4):uint() == 0 then bad("routing state validity time 0 is reserved") end
    end,
    [3] = function(v, t)
        local at = 4
        for i = 1, need(v, 0, 4)(0, 1):uint() do
            local n = need(v, at, 1):uint()
            local p = t:add(gist, need(v, at, 1 + n), "Profile " .. i)
            for k = 1, n do p:add(f["gist.stack_proposal.profile.protocol"], v(at + k, 1)) end
            if n == 0 then bad("profile %d is empty", i) end
            at = at + 1 + n + pad(1 + n)
        end
        exactly(v, at)
    end,
    [4] = function(v, t)
        need(v, 0, 8)
        t:add(f["gist.stack_configuration.hold_time_ms"], v(4, 4))
        local at = 8
        for i = 1, v(0, 1):uint() do
            local h = need(v, at, 4)
            local n = h(2, 1):uint()
            local o = t:add(gist, need(v, at, 4 + n + pad(n)), "Options " .. i)
            o:add(f["gist.stack_configuration.option.protocol"], h(0, 1))
            o:add(f["gist.stack_configuration.option.profile"], h(1, 1))
            bit(o, "gist.stack_configuration.option.disabled", h, 24)
            add_octets(o, "gist.stack_configuration.option.data", need(v, at + 4, n))
            if (h(0, 1):uint() == 1 or h(0, 1):uint() == 3) and n >= 2 then
                o:add(f["gist.stack_configuration.option.port"], v(at + 4, 2))
            end
            at = at + 4 + n + pad(n)
        end
        exactly(v, at)
        if v(4, 4):uint() == 0 then bad("MA-Hold-Time 0 is reserved") end
    end,
    [5] = function(v, t) t:add(f["gist.query_cookie"], v) end,
    [6] = function(v, t) t:add(f["gist.responder_cookie"], v) end,
    [7] = function(v, t) -- RFC 5971 A.3.9
        need(v, 0, 4)
        local words, types, nats = v(0, 1):uint(), v(1, 1):uint(), v(2, 1):uint()
        mri(need(v, 4, 4 * words), t:add(gist, v(4, 4 * words), "Original MRI"))
        local at = 4 + 4 * words
        for i = 0, types - 1 do
            local x = need(v, at + 2 * i, 2)
            t:add(f["gist.nat_traversal.translated"], x, x:bitfield(4, 12))
        end
        at = at + 2 * types + pad(2 * types)
        for _ = 1, nats do
            local n = need(v, at, 2):uint()
            add_octets(t, "gist.nat_traversal.nat.octets", need(v, at + 2, n))
            at = at + 2 + n + pad(2 + n)
        end
        exactly(v, at)
    end,
    [8] = function(v, t) t:add(f["gist.nslp_data"], v) end,
    [9] = error_data,
    [10] = function(v, t) exactly(v, 4) t:add(f["gist.hello_id"], v) end,
}

-- The objects that a message of some type may have, in order (RFC 5971 5.1);
-- negative: it has to have them.
local grammar = {
    [0] = { 7, -0.5, -1, -2, -5, 3, 4, 8 }, -- -0.5 is MRI, whose number is 0
    { 7, -0.5, -1, -2, -5, 6, 3, 4, 8 },
    { -0.5, -1, -2, 6, 3, 4, 8 },
    { 7, -0.5, -1, 2, -8 },
    { 7, 2, -9 },
    { -10 },
}

local function check_grammar(kind, order)
    local at = 1
    local allowed = grammar[kind]
    for _, object in ipairs(order) do
        local number = object == 0 and 0.5 or object
        while allowed[at] and math.abs(allowed[at]) ~= number do
            if allowed[at] < 0 then bad("no %s before %s", gist_objects[math.floor(-allowed[at])], gist_objects[object]) end
            at = at + 1
        end
        if not allowed[at] then bad("%s does not stand there in a message of type %s", gist_objects[object], gist_types[kind]) end
        at = at + 1
    end
    for i = at, #allowed do
        if allowed[i] < 0 then bad("no %s", gist_objects[math.floor(-allowed[i])]) end
    end
end

-- message reads one message from its common header on.
local function message(v, tree, pinfo, root, dmode)
    need(v, 0, 8)
    header(v, tree, "gist.", "gist.flags.")
    local version, kind, words = v(0, 1):uint(), v:bitfield(49, 7), v(2, 2):uint()
    local name = gist_types[kind] or ("type " .. kind)
    tree:append_text(", " .. name)
    if version ~= 1 then bad("version %d, want 1", version) end
    local first -- what is wrong, of all that is
    local nslpid, payload, order = v(4, 2):uint(), nil, {}
    each_object("gist", gist_objects, v, 8, tree, function(object, ab, value, t)
        local read = gist_readers[object]
        if ab == 3 or not read and ab == 0 then
            first = first or ("object of type " .. object .. " with AB=" .. (ab == 3 and "11" or "00"))
        end
        if not read then
            if value then t:add(f["gist.octets"], value) end
            return
        end
        table.insert(order, object)
        local ok, err = true, nil
        if value or object == 5 or object == 6 or object == 8 then
            if value then ok, err = pcall(read, value, t) end
        else
            ok, err = false, { malformed = "no value" }
        end
        if not ok then
            first = first or (gist_objects[object] .. ": " .. why(err))
        end
        if object == 8 then payload = value end
    end)
    if payload and nslpid >= 1 and nslpid <= 32 then
        nslp.dissector(payload:tvb(), pinfo, root)
        name = name .. " {" .. (nslp.types[payload(0, 1):uint()] or "?") .. "}"
    end
    pinfo.cols.info:append((tostring(pinfo.cols.info) == "" and "" or ", ") .. name)
    if not gist_types[kind] then bad("type %d, want 0 to 5", kind) end
    if 8 + 4 * words ~= v:len() then bad("Message Length %d words, but the message has %d", words, (v:len() - 8) / 4) end
    if first then bad("%s", first) end
    local c, r, e = v:bitfield(48, 1), v:bitfield(57, 1), v:bitfield(58, 1)
    if kind == 0 and r == 0 or r == 1 and (kind == 2 or kind == 3 or kind == 4) then bad("R-flag %d in a message of type %s", r, name) end
    if e == 1 and kind ~= 3 then bad("E-flag in a message of type %s", name) end
    if kind == 0 and c == 0 or c == 1 and kind ~= 0 and kind ~= 3 then bad("C-flag %d in a message of type %s", c, name) end
    if kind == 0 and not dmode or kind == 5 and dmode then bad("message of type %s in the wrong mode", name) end
    check_grammar(kind, order)
end

local function dissect_message(v, pinfo, root, dmode)
    local tree = root:add(gist, v)
    if dmode then
        tree:add(f["gist.magic"], v(0, 4))
        v = need(v, 4, v:len() - 4)
    end
    if not v then
        mark("gist", tree, "no common header")
        return
    end
    with_errors("gist", tree, message, v, tree, pinfo, root, dmode)
end

local function dissect_udp(tvb, pinfo, root)
    if tvb:len() == 0 then return 0 end
    pinfo.cols.protocol = "GIST"
    if tvb:len() < 4 or tvb(0, 4):uint() ~= MAGIC then
        local tree = root:add(gist, tvb())
        mark("gist", tree, "no GIST magic number")
        return tvb:len()
    end
    pinfo.cols.info = ""
    dissect_message(tvb(), pinfo, root, true)
    return tvb:len()
end

local function message_length(tvb, _, offset)
    if tvb(offset, 1):uint() ~= 1 then return tvb:len() - offset end -- nobody knows
    return 8 + 4 * tvb(offset + 2, 2):uint()
end

local function dissect_pdu(tvb, pinfo, root)
    pinfo.cols.protocol = "GIST"
    dissect_message(tvb(), pinfo, root, false)
    return tvb:len()
end

local function is_record(tvb)
    local kind = tvb(0, 1):uint()
    return kind >= 20 and kind <= 23 and tvb:len() >= 3 and tvb(1, 1):uint() == 3 and tvb(2, 1):uint() <= 4
end

function gist.dissector(tvb, pinfo, root)
    if tvb:len() == 0 then return 0 end
    if pinfo.port_type == 3 then return dissect_udp(tvb, pinfo, root) end -- PT_UDP
    if is_record(tvb) then return Dissector.get("tls"):call(tvb, pinfo, root) end
    pinfo.cols.info = ""
    dissect_tcp_pdus(tvb, root, 8, message_length, dissect_pdu)
    return tvb:len()
end

-- looks_like says whether a stream begins with a GIST message.
local function looks_like(tvb)
    if tvb:len() < 12 or tvb(0, 1):uint() ~= 1 then return false end
    local kind, first, n = tvb(6, 1):bitfield(1, 7), tvb(8, 4):bitfield(4, 12), 4 * tvb(8, 4):bitfield(20, 12)
    if kind > 5 or tvb(7, 1):bitfield(3, 5) ~= 0 or tvb(8, 4):bitfield(2, 2) ~= 0 or tvb(8, 4):bitfield(16, 4) ~= 0 then return false end
    if 4 + n > 4 * tvb(2, 2):uint() then return false end
    if kind == 5 then return first == 10 end
    if kind == 4 then return first == 9 or first == 2 or first == 7 end
    return first == 0 or first == 7
end

gist:register_heuristic("udp", function(tvb, pinfo, root)
    if tvb:len() < 12 or tvb(0, 4):uint() ~= MAGIC then return false end
    dissect_udp(tvb, pinfo, root)
    return true
end)

for _, under in ipairs({ "tcp", "tls" }) do
    gist:register_heuristic(under, function(tvb, pinfo, root)
        if not looks_like(tvb) then return false end
        if under == "tcp" then pinfo.conversation = gist end
        gist.dissector(tvb, pinfo, root)
        return true
    end)
end

local ports = { udp = DissectorTable.get("udp.port"), tcp = DissectorTable.get("tcp.port"), tls = DissectorTable.get("tls.port") }
local port = gist.prefs.port
local function listen(on)
    for _, t in pairs(ports) do
        if on then t:add(port, gist) else t:remove(port, gist) end
    end
end
listen(true)

function gist.prefs_changed()
    if port ~= gist.prefs.port then
        listen(false)
        port = gist.prefs.port
        listen(true)
    end
end
