// What clients write first has to compile with the types that openapi-typescript makes of
// the description as it is called: members that may be left out are optional.
import type { paths } from "./openapi.js";

type Body<P extends keyof paths, M extends keyof paths[P]> =
  paths[P][M] extends { requestBody?: { content: { "application/json": infer B } } } ? B : never;

export const basic: Body<"/v1.0/emails", "post"> = {
  from: { email: "orders@example.com", name: "Your Company" },
  to: [{ email: "john@example.net", name: "John Doe" }],
  subject: "Your Order Confirmation",
  content: { text: "Thank you for your order #12345.", html: "<h1>Thank you!</h1>" },
  attachments: [{ filename: "a.txt", content: "aGk=" }],
};

export const batch: Body<"/v1.0/emails/batch", "post"> = {
  message: { from: { email: "orders@example.com" }, subject: "Order {{order}}", content: { text: "x" } },
  recipients: [{ email: "john@example.net", variables: { order: "1" } }],
};

export const webhook: Body<"/v1.0/webhooks", "post"> = { url: "https://example.com/hooks" };
export const key: Body<"/v1.0/accesskeys", "post"> = { name: "shop" };
export const rotation: Body<"/v1.0/accesskeys/{id}/rotate", "post"> = {};
export const domain: Body<"/v1.0/customers/{id}/domains", "post"> = { name: "example.com" };

// @ts-expect-error what has to be given is not optional
export const none: Body<"/v1.0/webhooks", "post"> = {};
