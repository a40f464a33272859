--- Tells whether a message comes from somebody who has the key, by HMAC-SHA256.
--
-- nginx's TLS has OpenSSL's libcrypto loaded already; what is done with secrets is its work.
local ffi = require "ffi"

ffi.cdef [[
const void *EVP_sha256(void);
unsigned char *HMAC(const void *algorithm, const void *key, int key_length,
  const char *data, size_t length, unsigned char *digest, unsigned int *digest_length);
int CRYPTO_memcmp(const void *a, const void *b, size_t length);
]]

local signature = {}

local LENGTH = 32 -- bytes

local function bytes_of(hex)
  return (hex:gsub("%x%x", function(digits) return string.char(tonumber(digits, 16)) end))
end

-- The true signature of a text; nil where libcrypto has no memory for it.
local function sign(key, text)
  local digest, length = ffi.new("unsigned char[?]", LENGTH), ffi.new "unsigned int[1]"
  local made = ffi.C.HMAC(ffi.C.EVP_sha256(), key, #key, text, #text, digest, length)
  return made ~= nil and length[0] == LENGTH and digest or nil
end

--- Checks a signature, in a time that does not tell how much of it is right.
-- @tparam string key
-- @tparam string text
-- @tparam ?string given `sha256=` and 64 hexadecimal digits
-- @treturn boolean whether the text was signed with the key
function signature.is_valid(key, text, given)
  local hex = given and given:match "^sha256=(%x+)$"
  if not hex or #hex ~= 2 * LENGTH then return false end
  local digest = sign(key, text)
  return digest ~= nil and ffi.C.CRYPTO_memcmp(digest, bytes_of(hex), LENGTH) == 0
end

return signature
