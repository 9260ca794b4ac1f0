-- What the dissectors of GIST, QoS-NSLP and QSPEC have in common: fields, and
-- careful reading. Loaded by gist.lua.

if package.loaded["interqos.nsis"] then return package.loaded["interqos.nsis"] end

local protos = {
    gist = Proto("gist", "General Internet Signalling Transport"),
    nslp = Proto("nslp", "QoS NSIS Signaling Layer Protocol"),
    qspec = Proto("qspec", "QoS Specification"),
}

local f = {}                                       -- by filter name
local lists = { gist = {}, nslp = {}, qspec = {} } -- fields of each protocol

local function field(kind, abbr, name, ...)
    f[abbr] = ProtoField[kind](abbr, name, ...)
    table.insert(lists[abbr:match("^%a+")], f[abbr])
end

local function u8(abbr, name, names) field("uint8", abbr, name, base.DEC, names) end
local function u16(abbr, name, names) field("uint16", abbr, name, base.DEC, names) end
local function u32(abbr, name, names) field("uint32", abbr, name, base.DEC, names) end
local function flag(abbr, name) field("bool", abbr, name) end
local function octets(abbr, name) field("bytes", abbr, name) end

-- An address is one of two fields, by its version: abbr and abbr6.
local function address(abbr, name)
    field("ipv4", abbr, name)
    field("ipv6", abbr .. "6", name)
end

local ab_bits = { [0] = "mandatory", "ignore", "forward", "refresh" }

-- object_fields are those of an object's header.
local function object_fields(protocol, names)
    u16(protocol .. ".object.type", "Type", names)
    u8(protocol .. ".object.ab", "A and B bits", ab_bits)
    u16(protocol .. ".object.length", "Length (octets)")
    octets(protocol .. ".octets", "Octets")
end

-- register gives a protocol the fields that were made for it.
local malformed = {}
local function register(protocol)
    malformed[protocol] = ProtoExpert.new(protocol .. ".malformed", "Malformed " .. protocol:upper(), expert.group.MALFORMED, expert.severity.ERROR)
    protos[protocol].fields = lists[protocol]
    protos[protocol].experts = { malformed[protocol] }
end

-- bad stops the dissection of what is being read: with_errors shows it.
local function bad(text, ...) error({ malformed = text:format(...) }, 0) end

local function mark(protocol, tree, text) tree:add_proto_expert_info(malformed[protocol], text) end

-- why is an error of a pcall in words.
local function why(err) return type(err) == "table" and err.malformed or tostring(err) end

local function with_errors(protocol, tree, run, ...)
    local ok, err = pcall(run, ...)
    if not ok then mark(protocol, tree, why(err)) end
    return ok
end

local function need(v, from, n)
    if v:len() < from + n then bad("%d octets, want at least %d", v:len(), from + n) end
    if n > 0 then return v(from, n) end -- a range of Wireshark is never empty
end

local function exactly(v, n)
    if v:len() ~= n then bad("%d octets, want %d", v:len(), n) end
end

-- add_octets adds octets, if there are any.
local function add_octets(tree, abbr, v)
    if v then tree:add(f[abbr], v) end
end

local function add_address(tree, abbr, v, version)
    if version == 6 then tree:add(f[abbr .. "6"], v) else tree:add(f[abbr], v) end
end

local function bit(tree, abbr, v, at) tree:add(f[abbr], v, v:bitfield(at, 1) == 1) end

local function pad(n) return -n % 4 end

-- each_object goes through the objects of GIST (RFC 5971 A.2) and of QoS-NSLP
-- (RFC 5974 5.1.3), whose headers are the same.
local function each_object(protocol, names, v, from, tree, fn)
    local at = from
    while at < v:len() do
        local head = need(v, at, 4)
        local kind, words = head:bitfield(4, 12), head:bitfield(20, 12)
        if at + 4 + 4 * words > v:len() then
            bad("object of type %d at offset %d: %d octets, but %d are left", kind, at, 4 * words, v:len() - at - 4)
        end
        local t = tree:add(protos[protocol], v(at, 4 + 4 * words), names[kind] or ("Object of type " .. kind))
        t:add(f[protocol .. ".object.type"], v(at, 2), kind)
        t:add(f[protocol .. ".object.ab"], v(at, 1), head:bitfield(0, 2))
        t:add(f[protocol .. ".object.length"], v(at + 2, 2), 4 * words)
        fn(kind, head:bitfield(0, 2), need(v, at + 4, 4 * words), t, at)
        at = at + 4 + 4 * words
    end
end

local nsis = { protos = protos, f = f, field = field, u8 = u8, u16 = u16, u32 = u32, flag = flag, octets = octets, address = address,
    object_fields = object_fields, register = register, bad = bad, with_errors = with_errors, need = need, exactly = exactly,
    add_octets = add_octets, add_address = add_address, bit = bit, pad = pad, each_object = each_object, mark = mark, why = why }
package.loaded["interqos.nsis"] = nsis
return nsis
