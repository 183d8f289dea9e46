#!lua name=deltawire_3

-- What changes a stream on the server, each as a whole. KEYS: 1 the hash, 2 the entries, 3 the list of all streams.
--
-- The hash: FIELDS, and a field `p:ID` of each producer. An entry holds the events of one append; its id is `LAST-COUNT`.
--
-- Terms are compared for equality: whoever has another one is no longer, or not yet, the owner.

local GONE = 3600000  -- milliseconds for which a deleted stream's term is kept, so that an owner that was paused is fenced
local SUMMARY = 4194304  -- bytes of events that one call looks at, in milliseconds: nobody else is served meanwhile
local LINEAGE = 16  -- epochs remembered; a reader of an older one starts again
local FIELDS = {'term', 'owner', 'epoch', 'head', 'floor', 'incarnation', 'clean', 'lineage', 'settings', 'created',
  'changed', 'messages', 'end'}

local function incarnation()
  -- Changes when the server starts, and when a replica is promoted: what was there may then be an older state.
  local run = string.match(redis.call('INFO', 'server'), 'run_id:(%w+)')
  local replication = string.match(redis.call('INFO', 'replication'), 'master_replid:(%w+)')
  return replication .. ':' .. run
end

local function whole(number)
  return string.format('%.0f', number)
end

local function set(key, args, from, ...)
  local call = {'HSET', key, ...}
  for i = from, #args do
    call[#call + 1] = args[i]
  end
  redis.call(unpack(call))
end

-- Whether the stream is there. A server that comes back with some of its fields has lost it.
local function is_there(keys)
  for _, value in ipairs(redis.call('HMGET', keys[1], unpack(FIELDS))) do
    if not value then
      return false
    end
  end
  return true
end

local function fenced(term, owner)
  return 'FENCED ' .. term .. ' ' .. (owner or '')
end

local function id(keys)
  return string.match(keys[1], '}:(.+):state$') or string.match(keys[1], '{(.*)}:state$')  -- in a cluster, and not
end

-- ARGS: where to begin. Returns some entries without their events (last, count, bytes and milliseconds of each), and
-- where to go on; empty at the end.
local function summary(keys, args)
  local found, bytes, from = {}, 0, args[1]
  while bytes < SUMMARY do
    local page = redis.call('XRANGE', keys[2], from, '+', 'COUNT', 16)
    for _, entry in ipairs(page) do
      local last, count = string.match(entry[1], '(%d+)-(%d+)')
      found[#found + 1] = {tonumber(last), tonumber(count), #entry[2][4], tonumber(entry[2][2])}
      bytes = bytes + #entry[2][4]
    end
    if #page < 16 then
      return {found, ''}
    end
    from = '(' .. page[#page][1]
  end
  return {found, from}
end

-- Whether a stream that is not there may begin. Its entries, which may be left of an older one, are told by the first; the
-- server itself refuses what is of another type. Returns 0 · an error, if another program has the keys
local function vacant(keys)
  local first = redis.call('XRANGE', keys[2], '-', '+', 'COUNT', 1)[1]
  local is_ours = not first or #first[2] == 4 and first[2][1] == 't' and first[2][3] == 'e'
  local known = redis.call('HMGET', keys[1], 'term', 'incarnation')
  if is_ours and (known[1] or known[2] or #redis.call('HGETALL', keys[1]) == 0) then
    return 0
  end
  return {err = 'WRONGTYPE it is of another program'}
end

-- ARGS: node, the term that was seen (empty: there was no stream), a fresh epoch, then fields of a new stream.
-- Returns fields, then as `summary` from the beginning · BUSY · an error, if another program has the keys
local function claim(keys, args)
  local node, seen, fresh = args[1], args[2], args[3]
  local known = redis.call('HMGET', keys[1], 'term', 'epoch', 'head', 'incarnation', 'clean', 'lineage',
    'owner')
  local is_new = not is_there(keys)
  local time = redis.call('TIME')
  local term = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local now = incarnation()
  term = math.max(term, tonumber(known[1] or '0') + 1)
  local is_again = seen == '' and known[2] == fresh and known[7] == node  -- the answer to the first try was lost
  local is_gone = is_new and seen ~= ''  -- since it was seen: who asks knows nothing that it could be made of
  if is_gone or not is_new and not is_again and known[1] ~= seen then
    if is_gone and known[1] == seen and known[7] then  -- not deleted, but lost
      redis.call('DEL', keys[1], keys[2])
      redis.call('ZREM', keys[3], id(keys))
    end
    return 'BUSY'
  end
  if is_new then
    local refused = vacant(keys)
    if refused ~= 0 then
      return refused
    end
    redis.call('DEL', keys[1], keys[2])
    set(keys[1], args, 4, 'term', whole(term), 'owner', node, 'epoch', fresh, 'head', '0', 'floor', '1',
      'incarnation', now, 'clean', '0', 'lineage', '')
  else
    local epoch, lineage = known[2], known[6]
    if known[4] ~= now and known[5] ~= '1' then
      local kept = {epoch .. ':' .. known[3]}
      for fork in string.gmatch(lineage, '%S+') do
        if #kept < LINEAGE then
          kept[#kept + 1] = fork
        end
      end
      epoch, lineage = fresh, table.concat(kept, ' ')
    end
    redis.call('HSET', keys[1], 'term', whole(term), 'owner', node, 'epoch', epoch,
      'incarnation', now, 'clean', '0', 'lineage', lineage)
  end
  redis.call('ZADD', keys[3], 'NX', whole(term), id(keys))
  return {redis.call('HGETALL', keys[1]), unpack(summary(keys, {'-'}))}
end

-- ARGS: term, the head that it follows, the new head, milliseconds, events, then fields.
-- Returns the new head · HEAD head · FENCED term owner · MISSING
local function append(keys, args)
  local known = redis.call('HMGET', keys[1], 'term', 'head', 'owner')
  if known[1] and known[1] ~= args[1] then
    return fenced(known[1], known[3])
  elseif not (known[1] and known[2]) then
    return 'MISSING'
  elseif known[2] ~= args[2] then
    return 'HEAD ' .. known[2]
  end
  local count = tonumber(args[3]) - tonumber(args[2])
  if count > 0 then
    redis.call('XADD', keys[2], args[3] .. '-' .. whole(count), 't', args[4], 'e', args[5])
  end
  set(keys[1], args, 6, 'head', args[3])
  return tonumber(args[3])
end

-- Like an append of nothing, after which the epoch is kept if this incarnation lasts.
-- ARGS: term, head. Returns as append.
local function confirm(keys, args)
  local head = append(keys, {args[1], args[2], args[2], '0', ''})
  if type(head) == 'number' then
    if not is_there(keys) then
      return 'MISSING'
    end
    redis.call('HSET', keys[1], 'incarnation', incarnation())
  end
  return head
end

-- Begins to append again what the server has lost. Until `confirm`, nobody else keeps the epoch.
-- ARGS: term, the term that was seen, node, epoch, the head before the first event that can be appended again, then
-- fields. Returns the head that the server has · FENCED term owner
local function repair(keys, args)
  local known = redis.call('HMGET', keys[1], 'term', 'head', 'owner', 'epoch')
  if known[1] and known[1] ~= args[1] and known[1] ~= args[2] then
    return fenced(known[1], known[3])
  end
  local head, base = tonumber(known[2] or '-1'), tonumber(args[5])
  if known[4] ~= args[4] or head < base or not is_there(keys) then
    redis.call('DEL', keys[1], keys[2])
    head = base
    redis.call('HSET', keys[1], 'floor', whole(base + 1))
  end
  set(keys[1], args, 6, 'term', args[1], 'owner', args[3], 'epoch', args[4], 'head', whole(head), 'incarnation', '',
    'clean', '0')
  redis.call('ZADD', keys[3], 'NX', args[1], id(keys))
  return head
end

-- Forgets the events before a seq, as far as whole entries reach, and the producers seen longest ago.
-- ARGS: term, the seq, producers to remember. Returns 0 · FENCED term owner · MISSING
local function trim(keys, args)
  local known = redis.call('HMGET', keys[1], 'term', 'owner')
  if not known[1] then
    return 'MISSING'
  elseif known[1] ~= args[1] then
    return fenced(known[1], known[2])
  end
  redis.call('XTRIM', keys[2], 'MINID', args[2])
  redis.call('HSET', keys[1], 'floor', args[2])
  local producers, fields = {}, redis.call('HGETALL', keys[1])
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 2) == 'p:' then
      producers[#producers + 1] = {fields[i], tonumber(string.match(fields[i + 1], '(%d+)$'))}
    end
  end
  table.sort(producers, function(one, other) return one[2] > other[2] end)
  for i = tonumber(args[3]) + 1, #producers do
    redis.call('HDEL', keys[1], producers[i][1])
  end
  return 0
end

-- Gives a stream up, or deletes it. ARGS: term, `delete` or `leave`. Returns 0 · FENCED term owner
local function release(keys, args)
  local known = redis.call('HMGET', keys[1], 'term', 'owner')
  if known[1] and known[1] ~= args[1] then
    return fenced(known[1], known[2])
  elseif args[2] == 'delete' then
    redis.call('DEL', keys[1], keys[2])
    redis.call('HSET', keys[1], 'term', args[1])
    redis.call('PEXPIRE', keys[1], GONE)
    redis.call('ZREM', keys[3], id(keys))
  elseif known[1] then
    redis.call('HSET', keys[1], 'owner', '', 'clean', '1')
  end
  return 0
end

-- Takes a stream off the list, unless it is there. Returns how many were.
local function unlist(keys)
  return is_there(keys) and 0 or redis.call('ZREM', keys[3], id(keys))
end

-- ARGS: first and last seq, bytes after which to stop. Returns last, count and events of each entry.
local function read(keys, args)
  local found, bytes, from = {}, 0, args[1]
  while true do
    local page = redis.call('XRANGE', keys[2], from, '+', 'COUNT', 16)
    for _, entry in ipairs(page) do
      local last, count = string.match(entry[1], '(%d+)-(%d+)')
      found[#found + 1] = {tonumber(last), tonumber(count), entry[2][4]}
      bytes = bytes + #entry[2][4]
      if bytes >= tonumber(args[3]) or tonumber(last) >= tonumber(args[2]) then
        return found
      end
    end
    if #page < 16 then
      return found
    end
    from = '(' .. page[#page][1]
  end
end

-- Begins the session of a gateway. KEYS: its own. ARGS: who it is, milliseconds. Returns 0.
local function begin(keys, args)
  redis.call('SET', keys[1], args[1], 'PX', args[2])
  return 0
end

-- Has a session last. KEYS: its own, the list of all. ARGS: node, milliseconds, seconds for which others are remembered.
-- Returns whether it was there, and the gateways that were there lately.
local function renew(keys, args)
  local now = tonumber(redis.call('TIME')[1])
  redis.call('ZADD', keys[2], now, args[1])
  redis.call('ZREMRANGEBYSCORE', keys[2], 0, now - tonumber(args[3]))
  return {redis.call('PEXPIRE', keys[1], args[2]), redis.call('ZRANGE', keys[2], 0, -1)}
end

-- Tries everything that the others do, on keys that are not used otherwise. Returns 0, or a command that is refused and why.
local function probe(keys)
  local commands = {
    {'DEL', keys[1], keys[2]},  -- what a probe left that was refused something
    {'INFO', 'server'},
    {'TIME'},
    {'HSET', keys[1], 'head', '1'},
    {'HMGET', keys[1], 'head'},
    {'HGETALL', keys[1]},
    {'HDEL', keys[1], 'head'},
    {'PEXPIRE', keys[1], 1000},
    {'XADD', keys[2], '1-1', 'e', ''},
    {'XRANGE', keys[2], '-', '+', 'COUNT', 1},
    {'XTRIM', keys[2], 'MINID', '2'},
    {'ZADD', keys[3], 'NX', 0, id(keys)},
    {'ZREM', keys[3], id(keys)},
    {'ZRANGE', keys[3], 0, 0},
    {'ZREMRANGEBYSCORE', keys[3], 1, 0},  -- which are none
    {'DEL', keys[1], keys[2]},
    {'SET', keys[1], '', 'PX', 1000},
    {'DEL', keys[1], keys[2]},
  }
  for _, command in ipairs(commands) do
    local reply = redis.pcall(unpack(command))
    if type(reply) == 'table' and reply.err then
      return {command[1], reply.err}
    end
  end
  return 0
end

redis.register_function('deltawire_3_create', claim)
redis.register_function('deltawire_3_append', append)
redis.register_function('deltawire_3_repair', repair)
-- While there is no memory left, gateways come and go, and streams are taken over and trimmed: what that writes is little.
redis.register_function{function_name='deltawire_3_begin', callback=begin, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_renew', callback=renew, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_probe', callback=probe, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_claim', callback=claim, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_confirm', callback=confirm, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_trim', callback=trim, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_release', callback=release, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_unlist', callback=unlist, flags={'allow-oom'}}
redis.register_function{function_name='deltawire_3_vacant', callback=vacant, flags={'no-writes'}}
redis.register_function{function_name='deltawire_3_summary', callback=summary, flags={'no-writes'}}
redis.register_function{function_name='deltawire_3_read', callback=read, flags={'no-writes'}}
