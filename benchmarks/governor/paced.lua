-- wrk: each connection waits 20 to 60 ms between requests; the latencies are printed at the end.
function init(_)
  math.randomseed(os.time())
end

function delay()
  return math.random(20, 60)
end

function done(_, latency, _)
  for i = 1, #latency do
    local value, count = latency(i)
    io.write(string.format("latency %d %d\n", value, count))
  end
end
