// Sends one e-mail from TypeScript and goes by what becomes of it:
//
//   npm ci && npm run build
//   node out/start.js CUSTOMER_ID demo@example.com you@example.net order-5
//
// TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE say where Temporal is.
import { ApplicationFailure, Client, Connection, WorkflowFailedError } from '@temporalio/client';
import type { ErrorDetails, SendEmail } from './postrider.js';

const [customer, from, to, order] = process.argv.slice(2);
if (!customer || !from || !to || !order) {
  console.error('usage: node out/start.js CUSTOMER_ID FROM TO ORDER');
  process.exit(2);
}

const connection = await Connection.connect({ address: process.env.TEMPORAL_ADDRESS ?? 'localhost:7233' });
const client = new Client({ connection, namespace: process.env.TEMPORAL_NAMESPACE ?? 'default' });
try {
  // The workflow id names the mail: started twice under it, it is sent once, and both
  // starts get the one result.
  const result = await client.workflow.execute<SendEmail>('SendEmail', {
    taskQueue: 'postrider',
    workflowId: `${order}-mail`,
    workflowIdConflictPolicy: 'USE_EXISTING',
    args: [
      {
        customer_id: customer,
        message: { from: { email: from }, to: [{ email: to }], subject: `Your ${order}`, content: 'Thank you for your order.', tags: ['order'] },
      },
    ],
  });
  for (const r of result.recipients) {
    console.log(`${r.address} ${r.status}: ${r.smtp_code ?? ''} ${r.text ?? ''}`);
  }
  process.exitCode = result.status === 'delivered' ? 0 : 1;
} catch (err) {
  // What recipients' servers say is a result. This is for the sender to mend.
  if (!(err instanceof WorkflowFailedError) || !(err.cause instanceof ApplicationFailure)) throw err;
  console.error(`${err.cause.type}: ${err.cause.message}`);
  for (const e of (err.cause.details?.[0] as ErrorDetails | undefined)?.errors ?? []) {
    console.error(`  ${e.pointer} ${e.code}: ${e.detail}`);
  }
  process.exitCode = 2;
} finally {
  await connection.close();
}
