// A chart that draws what its property says, from its first moment to its last.
import { echarts } from "nicegui-echart";
import { h } from "vue";

export default {
  props: { options: String }, // JSON: Vue would wrap each of thousands of points
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
      this.chart.setOption(JSON.parse(this.options), true);
    },
  },
};
