--- Lists that come in pages: what is fetched, when, and what becomes of a page that fails.
local azure = require "cloudsync.azure"
local cloudsync = require "cloudsync"
local core = require "cloudsync.core"
local errors = require "cloudsync.error"
local support = require "spec.support"

local PAGES = "/integrationRuntimes$" -- matches the list, whichever its page
local random = core.random

local function factory(runtimes, page_size, more)
  local definition = { factoryName = "paged", runtimes = runtimes, page_size = page_size }
  for name, value in pairs(more or {}) do definition[name] = value end
  support.factory(definition)
end

local function list(options, settings)
  local overrides = { factoryName = "paged" }
  for name, value in pairs(settings or {}) do overrides[name] = value end
  return support.datafactory(overrides).integration_runtimes:list_by_factory(nil, options)
end

local function name_at(i) return ("ir-%04d"):format(i) end

-- The names, in the order they come; `most` at most.
local function names(pager, most)
  local found = {}
  for runtime in pager do
    found[#found + 1] = runtime.name
    if #found == most then break end
  end
  return found
end

local function expect(count)
  local expected = {}
  for i = 1, count do expected[i] = name_at(i) end
  return expected
end

-- Answers the page after `skip` others with this text.
local function page(text, skip, times)
  support.fault { match = { path = PAGES }, status = 200, body = text, skip = skip or 0,
    times = times or 1 }
end

describe("a pager", function()
  before_each(function()
    support.reset()
    core.random = function() return 0.01 end
  end)
  after_each(function() core.random = random end)

  -- runtimes, page size, requests
  for _, case in ipairs { { 0, 50, 1 }, { 1, 50, 1 }, { 49, 50, 1 }, { 50, 50, 1 }, { 51, 50, 2 },
    { 100, 50, 2 }, { 7, 1, 7 }, { 130, 50, 3 } } do
    local count, size, requests = case[1], case[2], case[3]
    local title = " %d runtimes in pages of %d with %d requests"
    it("iterates over" .. title:format(count, size, requests), function()
      factory(count, size)
      assert.same(expect(count), names(list()))
      assert.equal(requests, #support.requests())
    end)

    it("collects" .. title:format(count, size, requests), function()
      factory(count, size)
      local all, err = list():collect()
      assert.is_nil(err)
      assert.equal(count, #all)
      for i, runtime in ipairs(all) do assert.equal(name_at(i), runtime.name) end
      assert.equal(requests, #support.requests())
    end)

    it("gives the pages of" .. title:format(count, size, requests), function()
      factory(count, size)
      local pages, total = 0, 0
      for items in list():pages() do
        pages = pages + 1
        assert.is_true(#items <= size)
        for _, runtime in ipairs(items) do
          total = total + 1
          assert.equal(name_at(total), runtime.name)
        end
      end
      assert.equal(requests, pages)
      assert.equal(count, total)
    end)
  end

  it("lists 10,000 runtimes in order", function()
    factory(10000, 500)
    local found = names(list())
    assert.equal(10000, #found)
    for i, name in ipairs(found) do assert.equal(name_at(i), name) end
    assert.equal(20, #support.requests())
  end)

  it("sends nothing until it is read", function()
    factory(3, 1)
    local pager = list()
    assert.equal(0, #support.requests())
    pager()
    assert.equal(1, #support.requests())
  end)

  it("fetches no page beyond the one that a loop breaks off in", function()
    factory(100, 10)
    assert.same(expect(15), names(list(), 15))
    assert.equal(2, #support.requests())
  end)

  it("fetches no page before all items of the last one are read", function()
    factory(100, 10)
    assert.same(expect(10), names(list(), 10))
    assert.equal(1, #support.requests())
  end)

  it("may be read on after a loop that broke off", function()
    factory(5, 2)
    local pager = list()
    assert.same({ name_at(1) }, names(pager, 1))
    assert.same({ name_at(2), name_at(3), name_at(4), name_at(5) }, names(pager))
  end)

  it("goes on saying that it is at its end", function()
    factory(1, 1)
    local pager = list()
    assert.is_table(pager())
    for _ = 1, 3 do assert.is_nil(pager()) end
    assert.equal(1, #support.requests())
  end)

  it("follows the link to the next page to the letter", function()
    factory(5, 2)
    assert.equal(5, #list():collect())
    local requests = support.requests()
    assert.equal(3, #requests)
    local path = requests[1].uri:match "^[^?]*"
    assert.equal(path .. "?api-version=2018-06-01", requests[1].uri)
    assert.equal(path .. "?api-version=2018-06-01&%24skiptoken=p3%2bx%3D", requests[2].uri)
    assert.equal(path .. "?api-version=2018-06-01&%24skiptoken=p5%2bx%3D", requests[3].uri)
  end)

  it("sends each page's request as a GET with its own id and the caller's headers", function()
    factory(4, 2)
    list({ headers = { ["X-Team"] = "blue" } }):collect()
    local requests = support.requests()
    assert.equal(2, #requests)
    for _, request in ipairs(requests) do
      assert.equal("GET", request.method)
      assert.equal("blue", request.headers["x-team"])
      assert.equal("application/json", request.headers.accept)
      assert.is_nil(request.headers["content-type"])
      assert.equal("", request.body)
      assert.is_string(request.headers["x-ms-client-request-id"])
    end
    assert.is_not_equal(requests[1].headers["x-ms-client-request-id"],
      requests[2].headers["x-ms-client-request-id"])
  end)

  local links = {
    ["an absolute link"] = function(path) return support.env "ARM" .. path end,
    ["a link that is only a path"] = function(path) return path end,
    ["a link with the host in capitals"] = function(path)
      return (support.env "ARM" .. path):gsub("^https", "HTTPS")
    end,
    ["a link with a fragment"] = function(path) return support.env "ARM" .. path .. "#top" end,
  }
  for name, make in pairs(links) do
    it("follows " .. name, function()
      factory(2, 50)
      local path = "/subscriptions/" .. support.env "SUBSCRIPTION_ID" .. "/resourceGroups/"
        .. support.env "RESOURCE_GROUP" .. "/providers/Microsoft.DataFactory/factories/paged"
        .. "/integrationRuntimes?x=%7e&api-version=2018-06-01"
      support.fault { kind = "next_link", next_link = make(path) }
      assert.equal(4, #assert(list():collect()))
      assert.equal(path, support.requests()[2].uri)
    end)
  end

  local function next_link(suffix)
    return support.env "ARM" .. "/next/integrationRuntimes" .. (suffix or "")
  end

  it("goes on after pages without an item", function()
    local link = '{"value":[],"nextLink":"%s"}'
    page(link:format(next_link "?page=2"))
    page(link:format(next_link "?page=3"))
    page '{"value":[{"name":"last"}]}'
    assert.same({ "last" }, names(list()))
    assert.equal(3, #support.requests())
  end)

  local ends = {
    ["no link"] = '{"value":[{"name":"a"}]}',
    ["a link that is null"] = '{"value":[{"name":"a"}],"nextLink":null}',
    ["a link that is empty"] = '{"value":[{"name":"a"}],"nextLink":""}',
  }
  for name, body in pairs(ends) do
    it("ends at a page with " .. name, function()
      page(body)
      assert.same({ "a" }, names(list()))
      assert.equal(1, #support.requests())
    end)
  end

  for name, body in pairs { ["null"] = '{"value":null}', ["left out"] = "{}" } do
    it("takes a list that is " .. name .. " for an empty one", function()
      page(body)
      local all = assert(list():collect())
      assert.equal(0, #all)
      assert.equal(1, #support.requests())
    end)
  end

  -- What comes as the second page, and what the error says.
  local bad = {
    ["whose list is a text"] = { '{"value":"x"}', "list" },
    ["whose list is a number"] = { '{"value":1}', "list" },
    ["that is a text"] = { '"x"', "list" },
    ["that is a number"] = { "1", "list" },
    ["that is empty"] = { "", "list" },
    ["whose link is a number"] = { '{"value":[],"nextLink":1}', "link" },
    ["whose link is an object"] = { '{"value":[],"nextLink":{}}', "link" },
    ["whose link is no URL"] = { '{"value":[],"nextLink":"nowhere"}', "link" },
    ["that is half a document"] = { '{"value":[', "JSON" },
  }
  for name, case in pairs(bad) do
    it("fails at a page " .. name, function()
      factory(4, 2)
      page(case[1], 1)
      local all, err = list():collect()
      assert.is_nil(all)
      assert.equal("protocol", err.kind)
      assert.matches(case[2], err.message)
      assert.equal("integration_runtimes:list_by_factory", err.operation)
      assert.equal("datafactory", err.service)
      assert.is_string(tostring(err))
      assert.equal(2, #support.requests())
    end)
  end

  it("tells of a page that can't be used what it tells of every failure", function()
    page '{"value":"x"}'
    local _, err = list():collect()
    assert.is_true(errors.is(err))
    assert.is_false(err.retryable)
    assert.equal(1, err.attempts)
  end)

  it("fails at a page that leads to itself", function()
    page('{"value":[{"name":"a"}],"nextLink":"' .. next_link() .. '"}', 0, 0)
    local found = {}
    local ok, err = pcall(function()
      for runtime in list() do found[#found + 1] = runtime.name end
    end)
    assert.is_false(ok)
    assert.equal("protocol", err.kind)
    assert.matches("read already", err.message)
    assert.same({ "a", "a" }, found)
    assert.equal(2, #support.requests())
  end)

  it("fails at a page that leads to an earlier one", function()
    local function leads(from, to)
      local link = support.env "ARM" .. "/next/" .. to .. "/integrationRuntimes"
      support.fault { match = { path = from .. PAGES }, status = 200, times = 0,
        body = ('{"value":[{"name":"%s"}],"nextLink":"%s"}'):format(to, link) }
    end
    leads("/paged", "a")
    leads("/a", "b")
    leads("/b", "a")
    -- the deadline only ends what would else be without end
    local _, err = list({ deadline = 0.5 }):collect()
    assert.equal("protocol", err.kind)
    assert.equal(3, #support.requests())
  end)

  it("raises the error object of a page that fails, after the items before it", function()
    factory(10, 2)
    support.fault { match = { path = PAGES }, status = 403, skip = 2, times = 0 }
    local found = {}
    local ok, err = pcall(function()
      for runtime in list() do found[#found + 1] = runtime.name end
    end)
    assert.is_false(ok)
    assert.same(expect(4), found)
    assert.is_true(errors.is(err))
    assert.equal("denied", err.kind)
    assert.equal(403, err.status)
    assert.equal(3, #support.requests())
  end)

  it("raises the error object from pages() too", function()
    factory(10, 2)
    support.fault { match = { path = PAGES }, status = 403, skip = 2, times = 0 }
    local pages = 0
    local ok, err = pcall(function()
      for _ in list():pages() do pages = pages + 1 end
    end)
    assert.is_false(ok)
    assert.equal(2, pages)
    assert.equal("denied", err.kind)
  end)

  it("returns nil and the error object from collect()", function()
    factory(10, 2)
    support.fault { match = { path = PAGES }, status = 403, skip = 2, times = 0 }
    local all, err = list():collect()
    assert.is_nil(all)
    assert.equal("denied", err.kind)
    assert.equal(3, #support.requests())
  end)

  it("sends nothing more after a failure", function()
    factory(10, 2)
    support.fault { match = { path = PAGES }, status = 403, times = 1 }
    local pager = list()
    assert.is_false((pcall(pager)))
    assert.is_nil(pager())
    assert.equal(1, #support.requests())
  end)

  it("repeats the request for a page that is throttled", function()
    factory(6, 2)
    support.fault { match = { path = PAGES }, status = 429, skip = 1, times = 2,
      headers = { ["Retry-After"] = "0" } }
    assert.same(expect(6), names(list()))
    local requests = support.requests()
    assert.equal(5, #requests)
    assert.equal(requests[2].uri, requests[3].uri)
    assert.equal(requests[2].uri, requests[4].uri)
  end)

  it("has as many retries for each page as a call", function()
    factory(6, 2)
    support.fault { match = { path = PAGES }, status = 500, times = 0 }
    local _, err = list({ retries = 2 }):collect()
    assert.equal(3, err.attempts)
    assert.equal(3, #support.requests())
  end)

  it("renews its token in the middle of a list", function()
    factory(6, 2)
    local pager = list(nil, { credential = support.credential() })
    assert.same(expect(2), names(pager, 2))
    support.control("POST", "tokens/revoke")
    assert.equal(4, #names(pager))
    assert.equal(2, #support.requests "service=entra")
  end)

  it("has one deadline for all pages, that of the call", function()
    factory(6, 1)
    support.datafactory { factoryName = "paged" }.factories:get()
    support.fault { match = { path = PAGES }, delay = 0.15, times = 0 }
    local started = cloudsync.now()
    local all, err = list { deadline = 0.35 }:collect()
    local spent = cloudsync.now() - started
    assert.is_nil(all)
    assert.equal("timeout", err.kind)
    assert.is_true(spent < 0.45, "it took " .. spent .. " s")
  end)

  it("has the client's deadline for each page: what is done between them is not its", function()
    factory(6, 1)
    support.fault { match = { path = PAGES }, delay = 0.15, times = 0 }
    assert.equal(6, #assert(list(nil, { deadline = 0.35 }):collect()))
  end)

  it("has a timeout for each page", function()
    factory(4, 1)
    support.fault { match = { path = PAGES }, delay = 0.1, times = 0 }
    assert.equal(4, #assert(list({ timeout = 0.25 }):collect()))
  end)

  it("may be read in turn with another", function()
    factory(6, 2)
    support.factory { factoryName = "second", runtimes = 3, page_size = 1 }
    local first, second = list(), list(nil, { factoryName = "second" })
    local found = {}
    repeat
      local a, b = first(), second()
      found[#found + 1] = (a and a.name or "-") .. " " .. (b and b.name or "-")
    until not a and not b
    assert.same({ "ir-0001 ir-0001", "ir-0002 ir-0002", "ir-0003 ir-0003", "ir-0004 -",
      "ir-0005 -", "ir-0006 -", "- -" }, found)
    assert.equal(6, #support.requests())
  end)

  it("may be read in tasks, side by side", function()
    factory(40, 4, { latency = 0.02 })
    local started = cloudsync.now()
    local results, failures = cloudsync.map({ 1, 2, 3, 4, 5, 6, 7, 8 }, function()
      return names(list())
    end, { concurrency = 8 })
    local spent = cloudsync.now() - started
    assert.equal(0, #failures)
    for i = 1, 8 do assert.same(expect(40), results[i]) end
    assert.is_true(spent < 8 * 10 * 0.02 / 2, "it took " .. spent .. " s")
  end)

  it("fails in a task as anywhere", function()
    factory(6, 2)
    support.fault { match = { path = PAGES }, status = 403, skip = 1 }
    local _, failures = cloudsync.map({ 1 }, function() return names(list()) end)
    assert.equal(1, #failures)
    assert.equal("denied", failures[1].err.kind)
  end)

  it("gives the first page's request in a dry run, and sends nothing", function()
    local request = list { dry_run = true }
    assert.equal("GET", request.method)
    assert.matches("/factories/paged/integrationRuntimes%?api%-version=2018%-06%-01$", request.url)
    assert.equal(0, #support.requests())
  end)

  it("raises for a misspelt option before it is read", function()
    assert.is_false((pcall(list, { deadlin = 1 })))
  end)

  it("works over plain HTTP/1.1 to this machine", function()
    factory(5, 2)
    local adf = support.datafactory { factoryName = "paged", endpoint = support.env "PLAIN",
      credential = azure.static_token_credential(support.env "STATIC_TOKEN") }
    assert.same(expect(5), names(adf.integration_runtimes:list_by_factory()))
  end)

  it("can be shared by tasks as pages too", function()
    factory(20, 2)
    local seen = 0
    local _, failures = cloudsync.map(list():pages(), function(items) seen = seen + #items end)
    assert.same({}, failures)
    assert.equal(20, seen)
  end)

  it("leaves no task waiting where turning a page raises", function()
    factory(6, 2)
    local pager = list()
    local send = pager.client.send
    pager.client = setmetatable({ send = function() error "broken" end },
      { __index = pager.client })
    local _, failures = cloudsync.map(pager, function() end, { concurrency = 4 })
    assert.is_function(send)
    assert.is_true(#failures >= 1)
  end)
end)
