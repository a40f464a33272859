std = "max"
exclude_files = { "build" }
max_code_line_length = 100
max_comment_line_length = 120
files["spec/*_spec.lua"] = { std = "max+busted" }
files["spec/browser/page.lua"] = { std = "max+busted" }
files["spec/simulator/*.lua"] = { std = "ngx_lua" }
files["lua/cloudsync/driver/nginx.lua"] = { std = "ngx_lua" }
files["lua/cloudsync/shared_tokens.lua"] = { std = "ngx_lua" }
files["lua/cloudsync/azure"] = { globals = { "ngx" } }
files["examples/nginx"] = { std = "ngx_lua" }
files["bench/nginx_worker.lua"] = { std = "ngx_lua" }
files["spec/nginx"] = { std = "ngx_lua", ignore = { "122/os" } }
files["spec/fixtures"] = { max_line_length = false }
