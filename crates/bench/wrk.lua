-- Deposits for wrk, one in each request, with unique idempotency keys. The environment has the
-- token, the path of the list of accounts, and the common prefix of the keys.
--
-- There is no response(): wrk parses headers only for it, and counts other statuses than 2xx and
-- 3xx without it.

local threads = 0

function setup(thread)
   thread:set("thread_number", threads)
   threads = threads + 1
end

function init()
   local token = assert(os.getenv("PASSBOOK_TOKEN"), "PASSBOOK_TOKEN is not set")
   local accounts = assert(os.getenv("PASSBOOK_ACCOUNTS"), "PASSBOOK_ACCOUNTS is not set")
   local prefix = assert(os.getenv("PASSBOOK_KEY_PREFIX"), "PASSBOOK_KEY_PREFIX is not set")
   local body = '{"amount":"100"}'
   heads = {}
   for account in io.lines(accounts) do
      heads[#heads + 1] = "POST /v1/accounts/" .. account .. "/deposits HTTP/1.1\r\n"
         .. "Idempotency-Key: " .. prefix .. "-" .. thread_number .. "-"
   end
   tail = "\r\nHost: passbook\r\nAuthorization: Bearer " .. token .. "\r\n"
      .. "Content-Type: application/json\r\nContent-Length: " .. #body .. "\r\n\r\n" .. body
   sent = 0
end

function request()
   sent = sent + 1
   return heads[math.random(#heads)] .. sent .. tail
end
