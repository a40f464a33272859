--- The command `cloudsync`. Exit codes: 0 done, 1 something failed, 2 wrong usage, 130 interrupted.
local argparse = require "argparse"
local core = require "cloudsync.core"

local COMMANDS = { ["datafactory sync"] = "cloudsync.cli.sync_factory" }

local function new_parser()
  local parser = argparse("cloudsync", "Keeps credentials in step across control planes.")
  parser:flag("--version", "Print the version."):action(function()
    print("cloudsync " .. core.version)
    os.exit(0, true)
  end)
  parser:command_target("service")
  local datafactory = parser:command("datafactory", "Azure Data Factory.")
  datafactory:command_target("action")
  require(COMMANDS["datafactory sync"]).describe(
    datafactory:command("sync", "Synchronise the credentials of every runtime of a factory."))
  return parser
end

--- Runs the command.
-- @tparam {string,...} arguments
-- @treturn integer the exit code
return function(arguments)
  local ok, settings = new_parser():pparse(arguments)
  if not ok then
    io.stderr:write("cloudsync: ", settings, " (see cloudsync --help)\n")
    return 2
  end
  local command = require(COMMANDS[settings.service .. " " .. settings.action])
  local ran, result = pcall(command.run, settings)
  if ran then return result end
  -- a mistake in the settings is raised with the place in the library that found it
  local message = tostring(result):gsub("^[^:]+:%d+: ", ""):gsub("%c", " ")
  io.stderr:write("cloudsync: ", message, "\n")
  return message:find("interrupted!", 1, true) and 130 or 2
end
