// Calls a server as a Node.js program does: one JSON object a line ({host, port, ca, pfx, passphrase} or with cert and
// key, all but the last two paths), one line of answer each.
import { readFileSync } from "node:fs";
import https from "node:https";

for (const line of readFileSync(0, "utf8").split("\n").filter(Boolean)) {
  const { host, port, ca, pfx, passphrase, cert, key } = JSON.parse(line);
  const read = (path) => (path ? readFileSync(path) : undefined);
  const options = {
    host: "127.0.0.1", port, servername: host, headers: { Host: host }, agent: false,
    ca: read(ca), pfx: read(pfx), passphrase, cert: read(cert), key: read(key),
  };
  const said = await new Promise((resolve) => {
    https.get(options, (answer) => {
      let body = "";
      answer.on("data", (part) => (body += part));
      answer.on("end", () => resolve(body));
    }).on("error", (problem) => resolve(String(problem)));
  });
  console.log(said.replaceAll("\n", " ").trim());
}
