// A chart that draws what its property says, from its first moment to its last.
import { echarts } from "nicegui-echart";
import { h, toRaw } from "vue";

export default {
  props: { options: Object },
  render: () => h("div"),
  mounted() {
    this.chart = echarts.init(this.$el, null, { renderer: "canvas" });
    this.chart.on("click", (event) => this.$emit("componentClick", event));
    this.resized = new ResizeObserver(() => this.chart.resize());
    this.resized.observe(this.$el);
    this.draw();
  },
  beforeUnmount() {
    this.resized.disconnect();
    this.chart.dispose();
  },
  watch: {
    options() {
      this.draw();
    },
  },
  methods: {
    draw() {
      // What Vue observes is slow to read: each of a thousand points would be wrapped.
      this.chart.setOption(toRaw(this.options), true);
    },
  },
};
