// The same function for Node.js.
export const handler = async (event) => {
  console.log(`greeting ${event.name}`);
  return { message: `hello ${event.name} from Node.js` };
};
