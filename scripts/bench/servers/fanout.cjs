// The obvious server in Node: `ws`, and a `send` to each consumer of `/{stream}/subscribe`.
"use strict";
const { WebSocketServer } = require("ws");

const streams = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: Number(process.argv[2]), perMessageDeflate: false, backlog: 4096 });

server.on("connection", (socket, request) => {
  const [, stream, role] = request.url.split("/");
  if (!streams.has(stream)) streams.set(stream, new Set());
  const consumers = streams.get(stream);
  socket.on("error", () => socket.terminate());
  if (role === "publish") {
    socket.on("message", (data, isBinary) => {
      for (const consumer of consumers) consumer.send(data, { binary: isBinary });
    });
  } else {
    consumers.add(socket);
    socket.on("close", () => consumers.delete(socket));
  }
});
