--- cloudsync keeps credentials in step across Azure Data Factory, vCenter and ArcGIS Server.
--
-- This module holds what all services share; each service is a module of its own, such as
-- `cloudsync.datafactory`.
local core = require "cloudsync.core"
local tasks = require "cloudsync.tasks"

local cloudsync = {
  version = core.version,

  --- Stands for JSON's null.
  null = core.null,

  --- Marks a table as a JSON array, so that it is one also when it is empty.
  array = core.array,

  --- Wraps a string so that it prints as `<secret>` and is wiped when it is collected;
  -- `secret:reveal()` gives the string.
  secret = core.secret,

  map = tasks.map,
  now = tasks.now,
  run = tasks.run,
  sleep = tasks.sleep,
  spawn = tasks.spawn,
}

return cloudsync
