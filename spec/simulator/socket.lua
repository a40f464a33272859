-- The connection of the current request, below what nginx lets Lua do with it.
local ffi = require "ffi"
local get_request = require("resty.core.base").get_request

local socket = {}

-- The heads of ngx_http_request_t and ngx_connection_t, as far as the file descriptor.
ffi.cdef [[
typedef struct { void *data, *read, *write; int fd; } simulator_connection;
typedef struct { uint32_t signature; simulator_connection *connection; } simulator_request;
struct simulator_address { uint16_t family; char data[14]; };
int connect (int fd, const struct simulator_address *address, unsigned int length);
]]

local unspecified = ffi.new "struct simulator_address"
local signature = 0x50545448 -- "HTTP", which nginx puts first so that it can be checked

-- Resets the TCP connection at once, with all that it multiplexes: connecting a socket to "no
-- address" is how Linux drops one. A status of 444 would only reset the stream under HTTP/2.
function socket.reset ()
  local r = ffi.cast("simulator_request *", get_request())
  assert(r.signature == signature, "not a request of nginx")
  ffi.C.connect(r.connection.fd, unspecified, ffi.sizeof(unspecified))
  return ngx.exit(444)
end

return socket
