--- The pages of a list, fetched as they are read.
--
-- A pager is called for the next item, so it stands in a `for`; it raises the error object of a
-- page that can't be fetched. `pages()` gives whole pages in the same way. `collect()` returns all
-- items, or `nil, err`.
local core = require "cloudsync.core"
local driver = require "cloudsync.driver"
local errors = require "cloudsync.error"
local tasks = require "cloudsync.tasks"

local Pager = {}
Pager.__index = Pager

local pager = {}

-- @param client the client whose `send` fetches a page
-- @param request for the first page
-- @tparam table options of the call; its deadline is for all pages together, a client's for each
function pager.new(client, request, options)
  local _, url = request:target()
  return setmetatable({
    client = client, request = request, options = options, items = {}, index = 0,
    seen = { [url] = true },
  }, Pager)
end

local function refuse(self, message)
  local operation = self.request:name()
  self.request = nil
  return nil, errors.new {
    kind = "protocol", outcome = "rejected", service = self.client.service,
    operation = operation, message = message, attempts = 1, retryable = false,
  }
end

-- The request for the page behind this one, or nil.
local function follow(self, link)
  if link == nil or link == core.null or link == "" then return nil end
  if type(link) ~= "string" then return refuse(self, "the link to the next page is no text") end
  local request = self.request:follow(self.client.transport, link)
  if not request then
    return refuse(self, "the link to the next page leads to another origin, which gets no "
      .. "credentials: check endpoint")
  end
  local _, url = request:target()
  if self.seen[url] then
    return refuse(self, "the link to the next page leads to a page that was read already")
  end
  self.seen[url] = true
  return request
end

-- Fetches the next page: its items, or nil at the end, or nil and an error.
local function fetch(self)
  if not self.request then return nil end
  local timeout = self.options.deadline
  self.deadline = self.deadline or timeout and core.now() + timeout
  local page, response = self.client:send(self.request, self.options, self.deadline)
  if page == nil then
    self.request = nil
    return nil, response
  end
  local items_name, link_name = self.request:paging()
  local items = type(page) == "table" and page[items_name]
  if items == nil or items == core.null then items = {} end
  if type(items) ~= "table" then return refuse(self, "the page holds no list of items") end
  local request, err = follow(self, page[link_name])
  self.request = request
  self.failure = err
  return items
end

local function next_page(self)
  local err = self.failure
  if not err then return fetch(self) end
  self.failure = nil
  return nil, err
end

-- Lets one task at a time turn a page; the others wait for it. Returns what `fn` returns.
local function alone(self, fn)
  self.turning = driver.current().event()
  local ok, items, err = pcall(fn, self)
  self.turning:set()
  self.turning = nil
  if not ok then error(items, 0) end
  return items, err
end

local function turn_page(self)
  local items, err
  if self.ahead then items, err = self.ahead:wait() else items, err = next_page(self) end
  self.ahead = items and self.reads_ahead and tasks.spawn(next_page, self)
  self.items, self.index, self.ended = items or {}, 0, not items
  return items, err
end

function Pager:__call()
  while not self.ended do
    local index = self.index + 1
    local item = self.items[index]
    if item ~= nil then
      self.index = index
      return item
    end
    if self.turning then
      self.turning:wait()
    else
      local _, err = alone(self, turn_page)
      if err then error(err, 0) end
    end
  end
end

--- Makes the iteration fetch each page while the items of the one before are being worked on; for
-- iterations that tasks share.
-- @return the pager
function Pager:read_ahead()
  self.reads_ahead = true
  return self
end

--- An iterator over pages, each a list of items.
function Pager:pages()
  return function()
    while self.turning do self.turning:wait() end
    local items, err = alone(self, next_page)
    if err then error(err, 0) end
    return items
  end
end

--- All items.
-- @treturn {table,...} or nil and an error
function Pager:collect()
  local all = core.array()
  while true do
    local items, err = next_page(self)
    if err then return nil, err end
    if not items then return all end
    for _, item in ipairs(items) do all[#all + 1] = item end
  end
end

return pager
