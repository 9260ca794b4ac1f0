-- QoS-NSLP (RFC 5974) with SESSION_AUTH (RFC 5981) and QSPEC (RFC 5975), with the
-- InterDomain-QOSM's code points of this project. Loaded by gist.lua.

if package.loaded["interqos.qosnslp"] then return package.loaded["interqos.qosnslp"] end

local here = debug.getinfo(1, "S").source:match("^@(.*)qosnslp%.lua$") or ""
local n = dofile(here .. "nsis.lua")
local nslp, qspec = n.protos.nslp, n.protos.qspec
local f, field, u8, u16, u32, flag, octets, address = n.f, n.field, n.u8, n.u16, n.u32, n.flag, n.octets, n.address
local bad, need, exactly, pad, bit = n.bad, n.need, n.exactly, n.pad, n.bit
local with_errors, add_address, each_object, why = n.with_errors, n.add_address, n.each_object, n.why

local nslp_types = { "RESERVE", "QUERY", "RESPONSE", "NOTIFY" }
local nslp_objects = { "RII", "RSN", "REFRESH-PERIOD", "BOUND-SESSION-ID", "PACKET-CLASSIFIER", "INFO-SPEC",
    "SESSION-ID-LIST", "RSN-LIST", "MSG-ID", "BOUND-MSG-ID", "QSPEC", [0x16] = "SESSION_AUTH", [2000] = "DOMAIN-RECORDS" }
local nslp_classes = { "Informational", "Success", "Protocol Error", "Transient Failure", "Permanent Failure",
    "QoS Model Error", "Signaling session failure" }
local bindings = { "tunnel", "bidirectional", "aggregate", "dependent", "preempted" }
local auth_types = { "AUTH_ENT_ID", "SESSION_ID", "SOURCE_ADDR", "DEST_ADDR", "START_TIME", "END_TIME",
    "NSLP_OBJECT_LIST", "AUTHENTICATION_DATA" }
local verdicts = { "committed", "refused", "released", "failed", "no answer", "queried" }

local qspec_objects = { [0] = "QoS Desired", "QoS Available", "QoS Reserved", "Minimum QoS" }
local qspec_types = { [0] = "Default", "Y.1541", "RMD", [13] = "InterDomain" }
local parameters = { "TMOD-1", "TMOD-2", "Path Latency", "Path Jitter", "Path PLR", "Path PER", "Slack Term",
    "Preemption Priority", "Admission Priority", "RPH Priority", "Excess Treatment", "PHB Class", "DSTE Class Type",
    "Y.1541 QoS Class", "TMOD Extension", "Restoration Priority", [256] = "Egress ID", [257] = "Ingress ID", [258] = "Absolute Time Specification",
    [259] = "Relative Time Specification" }

n.object_fields("nslp", nslp_objects)
u8("nslp.type", "Message type", nslp_types)
for _, x in ipairs({ "tear", "replace", "reserve_init", "scoping", "proxy", "ack_req", "break" }) do
    flag("nslp.flags." .. x, x:upper():gsub("_", "-"))
end
u32("nslp.rii", "RII")
u32("nslp.rsn.number", "RSN")
u32("nslp.rsn.epoch", "Epoch")
u32("nslp.refresh_period_ms", "Refresh period (ms)")
u8("nslp.bound_session.code", "Binding code", bindings)
octets("nslp.bound_session.sid", "Session ID")
for _, x in ipairs({ "x", "y", "p", "t", "f", "s", "a", "b" }) do
    flag("nslp.packet_classifier." .. x, x:upper())
end
u8("nslp.info_spec.class", "Error class", nslp_classes)
u8("nslp.info_spec.code", "Error code")
u8("nslp.info_spec.source_type", "Error source identifier type")
octets("nslp.info_spec.source", "Error source identifier")
octets("nslp.info_spec.info", "Error-specific information")
octets("nslp.session_id_list.sid", "Session ID")
u32("nslp.rsn_list.epoch", "Epoch")
u32("nslp.rsn_list.rsn", "RSN")
for _, x in ipairs({ "msg_id", "bound_msg_id" }) do
    flag("nslp." .. x .. ".d", "Bidirectional (D)")
    octets("nslp." .. x .. ".id", "Message ID")
end
u8("nslp.session_auth.type", "X-Type", auth_types)
u8("nslp.session_auth.subtype", "SubType")
octets("nslp.session_auth.value", "Value")
u8("nslp.domain_record.verdict", "Verdict", verdicts)
u32("nslp.domain_record.as", "AS number")
u8("nslp.domain_record.class", "INFO-SPEC class", nslp_classes)
u8("nslp.domain_record.code", "INFO-SPEC code")
u32("nslp.domain_record.microseconds", "Time in this domain (microseconds)")
field("float", "nslp.domain_record.largest_rate", "Largest rate (octets/s)")
field("int64", "nslp.domain_record.earliest", "Earliest start of the full rate")
field("string", "nslp.domain_record.sls", "SLS")
u32("nslp.domain_record.key_id", "Key id")
octets("nslp.domain_record.signature", "Signature")

u8("qspec.version", "Version")
u8("qspec.type", "QSPEC type", qspec_types)
flag("qspec.local", "Local QSPEC (I)")
u8("qspec.sequence", "Message sequence")
u8("qspec.combination", "Object combination")
u16("qspec.object", "Object", qspec_objects)
flag("qspec.object.failed", "Failed (E)")
u16("qspec.parameter", "Parameter", parameters)
flag("qspec.parameter.must", "Must be interpreted (M)")
flag("qspec.parameter.failed", "Failed (E)")
flag("qspec.parameter.unsupported", "Not supported (N)")
for _, x in ipairs({ "rate Rate (octets/s)", "bucket Bucket size (octets)", "peak Peak rate (octets/s)" }) do
    local name, text = x:match("(%a+) (.*)")
    field("float", "qspec.tmod." .. name, text)
end
u32("qspec.tmod.unit", "Minimum policed unit (octets)")
u32("qspec.tmod.mps", "Maximum packet size (octets)")
u32("qspec.latency", "Path latency (microseconds)")
u32("qspec.jitter", "Path jitter")
field("float", "qspec.ratio", "Ratio")
u32("qspec.slack", "Slack term (microseconds)")
u16("qspec.preemption.priority", "Preemption priority")
u16("qspec.preemption.defending", "Defending priority")
u8("qspec.admission.y2171", "Y.2171 admission priority")
u8("qspec.admission.local", "Admission priority, local use")
u16("qspec.rph.namespace", "RPH namespace")
u8("qspec.rph.priority", "RPH priority")
u8("qspec.excess.treatment", "Excess treatment")
u8("qspec.excess.remark", "Remark value")
field("uint16", "qspec.phb", "PHB", base.HEX)
u8("qspec.dste", "DSTE class type")
u8("qspec.y1541", "Y.1541 QoS class")
field("float", "qspec.peakbucket", "Peak bucket size (octets)")
u8("qspec.restore.priority", "Restoration priority")
u8("qspec.restore.ttr", "Time to restore")
u8("qspec.restore.eor", "Extent of restoration")
u32("qspec.border.as", "AS number")
address("qspec.border.address", "Interface address")
field("int64", "qspec.time.start", "Start (seconds since 1970)")
field("int64", "qspec.time.end", "End (seconds since 1970)")
u8("qspec.when.kind", "Kind")
u8("qspec.when.days", "Days")
field("int16", "qspec.when.utc_offset", "UTC offset (minutes)")
u32("qspec.when.start", "Start (seconds)")
u32("qspec.when.duration", "Duration (seconds)")
octets("qspec.octets", "Octets")

n.register("nslp")
n.register("qspec")

-- ---------------------------------------------------------------- QSPEC

local dissect_qspec

local function qspec_border(v, t)
    need(v, 0, 12)
    local version = v:bitfield(0, 4)
    if version ~= 4 and version ~= 6 then bad("IP version %d, want 4 or 6", version) end
    exactly(v, version == 6 and 24 or 12)
    t:add(f["qspec.border.as"], v(4, 4))
    add_address(t, "qspec.border.address", v(8), version)
end

local function tmod(v, t)
    exactly(v, 20)
    t:add(f["qspec.tmod.rate"], v(0, 4))
    t:add(f["qspec.tmod.bucket"], v(4, 4))
    t:add(f["qspec.tmod.peak"], v(8, 4))
    t:add(f["qspec.tmod.unit"], v(12, 4))
    t:add(f["qspec.tmod.mps"], v(16, 4))
end

local function word(abbr) return function(v, t) exactly(v, 4) t:add(f[abbr], v) end end

-- RFC 5975 5.2, and interdomain-qosm 2 from 256 on.
local qspec_parameters = {
    [1] = tmod, [2] = tmod,
    [3] = word("qspec.latency"),
    [4] = function(v, t) -- the fourth statistic is reserved
        exactly(v, 16)
        for i = 0, 2 do t:add(f["qspec.jitter"], v(4 * i, 4)) end
    end,
    [5] = word("qspec.ratio"), [6] = word("qspec.ratio"),
    [7] = word("qspec.slack"),
    [8] = function(v, t)
        exactly(v, 4)
        t:add(f["qspec.preemption.priority"], v(0, 2))
        t:add(f["qspec.preemption.defending"], v(2, 2))
    end,
    [9] = function(v, t)
        exactly(v, 4)
        t:add(f["qspec.admission.y2171"], v(0, 1))
        t:add(f["qspec.admission.local"], v(1, 1))
    end,
    [10] = function(v, t)
        exactly(v, 4)
        t:add(f["qspec.rph.namespace"], v(0, 2))
        t:add(f["qspec.rph.priority"], v(2, 1))
    end,
    [11] = function(v, t)
        exactly(v, 4)
        t:add(f["qspec.excess.treatment"], v(0, 1))
        t:add(f["qspec.excess.remark"], v(1, 1), v:bitfield(8, 6))
    end,
    [12] = function(v, t) exactly(v, 4) t:add(f["qspec.phb"], v(0, 2)) end,
    [13] = function(v, t) exactly(v, 4) t:add(f["qspec.dste"], v(0, 1)) end,
    [14] = function(v, t) exactly(v, 4) t:add(f["qspec.y1541"], v(0, 1)) end,
    [15] = word("qspec.peakbucket"), -- 15 and 16: RFC 5976 3
    [16] = function(v, t)
        exactly(v, 4)
        t:add(f["qspec.restore.priority"], v(0, 1))
        t:add(f["qspec.restore.ttr"], v(1, 1), v:bitfield(8, 4))
        t:add(f["qspec.restore.eor"], v(1, 1), v:bitfield(12, 4))
    end,
    [256] = qspec_border, [257] = qspec_border,
    [258] = function(v, t)
        if v:len() % 16 ~= 0 or v:len() > 128 then bad("%d octets, want 16 for each of 1 to 8 intervals", v:len()) end
        for i = 0, v:len() - 16, 16 do
            t:add(f["qspec.time.start"], v(i, 8))
            t:add(f["qspec.time.end"], v(i + 8, 8))
        end
    end,
    [259] = function(v, t)
        exactly(v, 12)
        t:add(f["qspec.when.kind"], v(0, 1))
        t:add(f["qspec.when.days"], v(1, 1), v:bitfield(8, 7))
        t:add(f["qspec.when.utc_offset"], v(2, 2))
        t:add(f["qspec.when.start"], v(4, 4))
        t:add(f["qspec.when.duration"], v(8, 4))
    end,
}

local function qspec_object(v, tree)
    local at = 0
    while at < v:len() do
        local head = need(v, at, 4)
        local id, n = head:bitfield(4, 12), 4 * head:bitfield(20, 12)
        local whole = need(v, at, 4 + n)
        local t = tree:add(qspec, whole, parameters[id] or ("Parameter " .. id))
        t:add(f["qspec.parameter"], head(0, 2), id)
        bit(t, "qspec.parameter.must", head, 0)
        bit(t, "qspec.parameter.failed", head, 1)
        bit(t, "qspec.parameter.unsupported", head, 2)
        local read = qspec_parameters[id]
        local value = need(v, at + 4, n)
        if read and value then
            local ok, err = pcall(read, value, t)
            if not ok then bad("%s: %s", parameters[id], why(err)) end
        elseif read then
            bad("%s: no value", parameters[id])
        elseif value then
            t:add(f["qspec.octets"], value)
        end
        at = at + 4 + n
    end
end

local function qspec_body(v, tree)
    local head = need(v, 0, 4)
    tree:add(f["qspec.version"], head(0, 1), head:bitfield(0, 4))
    bit(tree, "qspec.local", head, 4)
    tree:add(f["qspec.type"], head(0, 2), head:bitfield(5, 5))
    tree:add(f["qspec.sequence"], head(1, 1), head:bitfield(12, 4))
    tree:add(f["qspec.combination"], head(2, 1), head:bitfield(16, 4))
    if head:bitfield(0, 4) ~= 0 then bad("version %d, want 0", head:bitfield(0, 4)) end
    local stop = 4 + 4 * head:bitfield(20, 12)
    if stop == 4 then bad("no objects") end
    need(v, 0, stop)
    local at = 4
    while at < stop do
        local h = need(v, at, 4)
        local kind, n = h:bitfield(4, 12), 4 * h:bitfield(20, 12)
        if at + 4 + n > stop or n == 0 then bad("object of type %d: %d octets", kind, n) end
        if not qspec_objects[kind] then bad("object of type %d, want 0 to 3", kind) end
        local t = tree:add(qspec, v(at, 4 + n), qspec_objects[kind])
        t:add(f["qspec.object"], h(0, 2), kind)
        bit(t, "qspec.object.failed", h, 0)
        qspec_object(v(at + 4, n), t)
        at = at + 4 + n
    end
    -- A Local QSPEC may have the Initiator's after it (interdomain-qosm 2).
    if stop < v:len() then
        if head:bitfield(4, 1) == 0 then bad("%d octets after the objects", v:len() - stop) end
        dissect_qspec(v(stop), tree)
    end
end

dissect_qspec = function(v, tree)
    local t = tree:add(qspec, v)
    with_errors("qspec", t, qspec_body, v, t)
end

-- ---------------------------------------------------------------- QoS-NSLP

local function message_id(name)
    return function(v, t)
        exactly(v, 20)
        bit(t, "nslp." .. name .. ".d", v, 31)
        t:add(f["nslp." .. name .. ".id"], v(4, 16))
    end
end

local nslp_readers = {
    [1] = function(v, t) exactly(v, 4) t:add(f["nslp.rii"], v) end,
    [2] = function(v, t)
        exactly(v, 8)
        t:add(f["nslp.rsn.number"], v(0, 4))
        t:add(f["nslp.rsn.epoch"], v(4, 4))
    end,
    [3] = function(v, t) exactly(v, 4) t:add(f["nslp.refresh_period_ms"], v) end,
    [4] = function(v, t)
        exactly(v, 20)
        t:add(f["nslp.bound_session.code"], v(3, 1))
        t:add(f["nslp.bound_session.sid"], v(4, 16))
    end,
    [5] = function(v, t)
        exactly(v, 4)
        for i, x in ipairs({ "x", "y", "p", "t", "f", "s", "a", "b" }) do
            bit(t, "nslp.packet_classifier." .. x, v(0, 1), i - 1)
        end
    end,
    [6] = function(v, t)
        need(v, 0, 4)
        t:add(f["nslp.info_spec.class"], v(2, 1), v:bitfield(16, 4))
        t:add(f["nslp.info_spec.code"], v(1, 1))
        t:add(f["nslp.info_spec.source_type"], v(2, 1), v:bitfield(20, 4))
        local n = 4 * v(3, 1):uint()
        need(v, 4, n)
        if n > 0 then t:add(f["nslp.info_spec.source"], v(4, n)) end
        if v:len() > 4 + n then t:add(f["nslp.info_spec.info"], v(4 + n)) end
    end,
    [7] = function(v, t)
        if v:len() % 16 ~= 0 then bad("%d octets, want 16 for each Session ID", v:len()) end
        for i = 0, v:len() - 16, 16 do t:add(f["nslp.session_id_list.sid"], v(i, 16)) end
    end,
    [8] = function(v, t)
        need(v, 0, 8)
        t:add(f["nslp.rsn_list.epoch"], v(0, 4))
        for i = 4, v:len() - 4, 4 do t:add(f["nslp.rsn_list.rsn"], v(i, 4)) end
    end,
    [9] = message_id("msg_id"),
    [10] = message_id("bound_msg_id"),
    [11] = function(v, t) dissect_qspec(v, t) end,
    [0x16] = function(v, t) -- RFC 5981 3.2: lengths in octets, header included
        local at = 0
        while at < v:len() do
            local n = need(v, at, 4)(0, 2):uint()
            if n <= 4 then bad("attribute at offset %d: length %d, want more than 4", at, n) end
            need(v, at, n + pad(n))
            local a = t:add(nslp, v(at, n), auth_types[v(at + 2, 1):uint()] or "Attribute")
            a:add(f["nslp.session_auth.type"], v(at + 2, 1))
            a:add(f["nslp.session_auth.subtype"], v(at + 3, 1))
            a:add(f["nslp.session_auth.value"], v(at + 4, n - 4))
            at = at + n + pad(n)
        end
    end,
    [2000] = function(v, t) -- interdomain-qosm 7
        local at = 0
        while at < v:len() do
            local n = 4 * need(v, at, 2):uint()
            if n < 32 then bad("record of %d octets, want at least 32", n) end
            local d = need(v, at, n)
            local r = t:add(nslp, d, "Record of AS" .. d(4, 4):uint())
            r:add(f["nslp.domain_record.verdict"], d(2, 1))
            r:add(f["nslp.domain_record.as"], d(4, 4))
            r:add(f["nslp.domain_record.class"], d(8, 1), d:bitfield(64, 4))
            r:add(f["nslp.domain_record.code"], d(9, 1))
            r:add(f["nslp.domain_record.microseconds"], d(12, 4))
            r:add(f["nslp.domain_record.largest_rate"], d(16, 4))
            r:add(f["nslp.domain_record.earliest"], d(20, 8))
            local name = d(10, 2):uint()
            need(d, 28, name + pad(name) + 4)
            if name > 0 then r:add(f["nslp.domain_record.sls"], d(28, name)) end
            local key = 28 + name + pad(name)
            r:add(f["nslp.domain_record.key_id"], d(key, 4))
            if key + 4 < n then r:add(f["nslp.domain_record.signature"], d(key + 4)) end
            at = at + n
        end
    end,
}

-- What a message of some type has to have (RFC 5974 5.1.2).
local nslp_mandatory = { { 2 }, { 11 }, { 6 }, { 6 } }

local function nslp_body(v, tree)
    local head = need(v, 0, 4)
    local kind = head(0, 1):uint()
    tree:add(f["nslp.type"], head(0, 1))
    if not nslp_types[kind] then bad("message type %d, want 1 to 4", kind) end
    tree:append_text(", " .. nslp_types[kind])
    if kind == 1 then
        bit(tree, "nslp.flags.tear", head, 14)
        bit(tree, "nslp.flags.replace", head, 15)
    elseif kind == 2 then
        bit(tree, "nslp.flags.reserve_init", head, 15)
    end
    bit(tree, "nslp.flags.scoping", head, 31)
    bit(tree, "nslp.flags.proxy", head, 30)
    if kind <= 2 then bit(tree, "nslp.flags.ack_req", head, 29) end
    bit(tree, "nslp.flags.break", head, 28)
    local seen = {}
    each_object("nslp", nslp_objects, v, 4, tree, function(object, ab, value, t)
        local read = nslp_readers[object]
        seen[object] = true
        if not read then
            if value then t:add(f["nslp.octets"], value) end
            if ab == 0 then bad("object of unknown type %d with AB=00", object) end
        elseif not value then
            bad("%s is empty", nslp_objects[object])
        else
            local ok, err = pcall(read, value, t)
            if not ok then bad("%s: %s", nslp_objects[object], why(err)) end
        end
    end)
    for _, object in ipairs(nslp_mandatory[kind]) do
        if not seen[object] then bad("no %s", nslp_objects[object]) end
    end
    return nslp_types[kind]
end

function nslp.dissector(tvb, pinfo, tree)
    local t = tree:add(nslp, tvb())
    with_errors("nslp", t, nslp_body, tvb(), t)
    return tvb:len()
end

local module = { dissector = nslp.dissector, types = nslp_types }
package.loaded["interqos.qosnslp"] = module
return module
