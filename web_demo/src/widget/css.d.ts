// A style sheet as the build gives it to the widget: its text.

declare module "*.css" {
  const text: string;
  export default text;
}
