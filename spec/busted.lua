-- Runs busted under the interpreter that runs this, whichever it is.
require "busted.runner" { standalone = false }
