// Reads messages with mailparser: one base64 line each on standard input, one line
// of JSON each on standard output.
'use strict';
const readline = require('node:readline');
const { simpleParser } = require('mailparser');

const people = (field) => [field].flat().filter(Boolean)
  .flatMap((list) => list.value.flatMap((one) => one.group || [one]))
  .filter((one) => one.address).map((one) => [one.name, one.address]);

async function read(raw) {
  const options = { skipHtmlToText: true, skipTextToHtml: true, skipImageLinks: true, skipTextLinks: true };
  const mail = await simpleParser(raw, options);
  return {
    text: mail.text || '', html: mail.html || '', subject: mail.subject || '',
    date: mail.date && !isNaN(mail.date) ? mail.date.toISOString() : null,
    from: people(mail.from), to: people(mail.to),
    attachments: mail.attachments.map((a) => ({ filename: a.filename || '', type: a.contentType, size: a.size })),
  };
}

(async () => {
  for await (const line of readline.createInterface({ input: process.stdin })) {
    let out;
    try {
      out = await read(Buffer.from(line, 'base64'));
    } catch (e) {
      out = { error: String(e) };
    }
    console.log(JSON.stringify(out));
  }
})();
