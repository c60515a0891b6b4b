// A style as text: how the widget's build loads it.
declare module "*.css" {
  const text: string;
  export default text;
}
